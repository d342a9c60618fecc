"""Detours: turns of the customer for which the flowchart has no place, and what the agent answers.

Off topic and an unlisted value come before a turn that the customer then takes as the flowchart has it: the agent says that it
cannot help there, and repeats its question. What comes after the end is answered once more, politely. Where the
customer is ambiguous or contradicts what was said, the agent asks back; teachers that are models write that, given a `style`.
Questions in between are in `questions`.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.otherwise import UNKNOWN_VALUE, OtherwiseKind, otherwise_texts, recognized_otherwise_texts
from subterra_core.procedure.template import render, split, variables_of
from subterra_jobs.dialogue.phrasing.language import speaks_english
from subterra_jobs.dialogue.phrasing.locale_data import locale_data
from subterra_jobs.dialogue.phrasing.unlisted_values import is_thing, names_things, unlisted_values
from subterra_jobs.dialogue.sampling import held_out as is_held_out
from subterra_jobs.dialogue.sampling import real_values, sample_values
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.dialogue.tool_calls import spoken
from subterra_jobs.dialogue.wording_patterns import compile_pattern, max_value_length

DetourKind = Literal["off topic", "unknown value", "after end", "ambiguity", "contradiction", "question"]
OTHERWISE: Mapping[DetourKind, OtherwiseKind] = {
    "off topic": "offTopic",
    "unknown value": "unknownValue",
    "after end": "afterEnd",
}
_REPEATING: tuple[DetourKind, ...] = ("off topic", "unknown value", "question")
"""Kinds after which the agent repeats its question."""
ASKING_SHARE = 0.5
"""Share of these customers who ask for a call, where there is a tool: one that is made after the end is made without a check."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Detour:
    """One exchange that the flowchart does not have."""

    kind: DetourKind
    at: int
    """Number of the customer's turns on the path before it."""
    customer: str
    agent: str
    """The agent's words, which its question follows unless the conversation is at its end."""
    value: str = ""
    """The unlisted value that the customer names, or the name of the question."""


def draw_detour(
    graph: Graph, path: Path, values: Mapping[str, str], kind: DetourKind, rng: random.Random, *, held_out: bool
) -> Detour | None:
    """A detour on a path; `None` where the path has no place for it, or the procedure speaks another language than English.

    With `held_out`, in words and values never in training.
    """
    if not speaks_english(graph.spec):
        return None
    words, turns = locale_data("detours"), _customer_turns(graph, path)
    side = "held_out" if held_out else "train"
    if kind == "unknown value":
        return _unknown_value(graph, turns, values, rng, held_out=held_out)
    agent = rng.choice(otherwise_texts(graph.spec, OTHERWISE[kind]))
    if kind == "after end":
        ends = graph.nodes[path[-1]].role == "agent"
        return Detour(kind, len(turns), _words_after_end(graph, rng, held_out=held_out), agent) if ends else None
    # The customer's first words come before any question of the agent that could be repeated.
    possible = range(0 if graph.nodes[path[0]].role == "agent" else 1, len(turns))
    return Detour(kind, rng.choice(possible), rng.choice(words["off_topic"][side]), agent) if possible else None


def with_detour(chat: Sequence[Mapping[str, str]], detour: Detour, *, before_path: int = 0) -> list[dict[str, str]]:
    """The chat with the exchange in its place; `before_path` is the number of customer turns before those of the path."""
    place = detour_index([message["role"] for message in chat], detour, before_path)
    asked = detour.kind in _REPEATING and chat[place - 1]["role"] == "assistant"
    question = question_of(chat[place - 1]["content"]) if asked else ""
    exchange = [
        {"role": "user", "content": detour.customer},
        {"role": "assistant", "content": f"{detour.agent} {question}".strip()},
    ]
    return [*map(dict, chat[:place]), *exchange, *map(dict, chat[place:])]


def with_detours(chat: Sequence[Mapping[str, str]], detours: Sequence[Detour], *, before_path: int = 0) -> list[dict[str, str]]:
    """The chat with several exchanges; of those at the same turn the last one is said first."""
    found = [dict(message) for message in chat]
    for detour in _from_the_end(detours):
        found = with_detour(found, detour, before_path=before_path)
    return found


def detour_places(roles: Sequence[str], detours: Sequence[Detour], before_path: int) -> list[int]:
    """The indexes at which `with_detours` inserts, one after the other."""
    roles, places = [*roles], list[int]()
    for detour in _from_the_end(detours):
        places.append(detour_index(roles, detour, before_path))
        roles[places[-1] : places[-1]] = ["user", "assistant"]
    return places


def _from_the_end(detours: Sequence[Detour]) -> list[Detour]:
    """In an order in which no exchange moves the place of another one."""
    return sorted(detours, key=lambda detour: -detour.at)


def detour_index(roles: Sequence[str], detour: Detour, before_path: int) -> int:
    """The index in a chat with these roles at which the detour is inserted."""
    turns = [index for index, role in enumerate(roles) if role == "user"]
    number = detour.at + before_path
    return turns[number] if number < len(turns) else len(roles)


def question_of(turn: str) -> str:
    """The last sentence of a turn: its question, if it asks one."""
    return _SENTENCE_END.split(spoken(turn).strip())[-1]


def otherwise_kind(spec: ProcedureSpec, reply: str, previous: str) -> OtherwiseKind | None:
    """The kind of otherwise text that a reply begins with, when nothing but the question of the `previous` reply follows."""
    text, question, limit = alike(" ".join(reply.split())), question_of(alike(" ".join(previous.split()))), max_value_length(spec)
    bare = text.removesuffix(question).rstrip()
    for kind in OTHERWISE.values():
        for template in recognized_otherwise_texts(spec, kind):
            regex = compile_pattern(template, limit).regex
            # A value in the middle is as short as can be, so that it hides nothing else; one at the end is all that is left.
            match = regex.fullmatch if template.rstrip().endswith("}}") else regex.match
            if any((found := match(said)) and found.end() == len(said) for said in (text, bare)):
                return kind
    return None


def _customer_turns(graph: Graph, path: Path) -> list[tuple[str, str | None]]:
    """The customer's nodes on a path, each with the node that follows; a turn that spans several nodes is its first."""
    following = [*path[1:], None]
    roles = [graph.nodes[node].role for node in path]
    return [
        (node, taken)
        for index, (node, taken) in enumerate(zip(path, following, strict=True))
        if roles[index] == "user" and (index == 0 or roles[index - 1] != "user")
    ]


def _unknown_value(
    graph: Graph, turns: Sequence[tuple[str, str | None]], values: Mapping[str, str], rng: random.Random, *, held_out: bool
) -> Detour | None:
    """The customer names a value that a closed variable does not list, in an example of the turn that would say it."""
    closed = {each.name: each for each in graph.spec.variables if _is_closed(each) and each.name not in graph.facts}
    places = [
        (at, text, name)
        for at, (node, taken) in enumerate(turns)
        if at or graph.nodes[graph.spec.start].role == "agent"
        for text in example_templates(graph, node, taken)
        for name in variables_of(text)
        if name in closed
    ]
    if not places:
        return None
    at, text, name = rng.choice(places)
    value = rng.choice(_unlisted(closed[name], _before(text, name), held_out))
    agent = rng.choice(otherwise_texts(graph.spec, "unknownValue"))
    said = render(text, {**values, name: value})
    return Detour("unknown value", at, said, render(agent, {UNKNOWN_VALUE: value}), value)


def _words_after_end(graph: Graph, rng: random.Random, *, held_out: bool) -> str:
    """What one customer says; with `held_out`, in words and values never in training, but for the author's examples."""
    words, side = locale_data("detours"), "held_out" if held_out else "train"
    thanks: str = rng.choice(words["after_end"][side])
    turns = _turns_before_calls(graph)
    if not turns or rng.random() >= ASKING_SHARE:
        return thanks
    values = sample_values(graph.spec.variables, rng, unseen=held_out, rich=held_out)
    asked = render(rng.choice(example_templates(graph, *rng.choice(turns))), values)
    frame: str = rng.choice(words["asks_after_end"][side])
    return frame.format(words=asked)


def _turns_before_calls(graph: Graph) -> list[tuple[str, str]]:
    """The customer's turns after which a tool is called before the customer says more, each with the node that follows it."""
    edges = [(node, edge) for node in graph.spec.nodes if node.role == "user" for edge in node.next]
    return [(node.id, edge.to) for node, edge in edges if (edge.examples or node.examples) and _calls(graph, edge.to)]


def _calls(graph: Graph, node: str, before: frozenset[str] = frozenset()) -> bool:
    """Whether the agent may call a tool at this node, or after it without another word of the customer."""
    role, ahead = graph.nodes[node].role, before | {node}
    return role == "tool" or (
        role == "agent" and any(_calls(graph, edge.to, ahead) for edge in graph.nodes[node].next if edge.to not in ahead)
    )


def _is_closed(variable: Variable) -> bool:
    return variable.type == "string" and not variable.open and variable.visibility == "customer"


def _before(text: str, name: str) -> str:
    """What stands in front of a variable in an example."""
    parts = split(text)
    return parts[2 * parts[1::2].index(name)]


def _unlisted(variable: Variable, before: str, held_out: bool) -> Sequence[str]:
    """Values on one side of the split that the variable does not list."""
    listed = {value.casefold() for value in variable.values}
    real = [value for value in real_values(variable, held_out=held_out) if value.casefold() not in listed]
    if real:
        return [value for value in real if is_thing(value) == names_things(variable)] or real
    strange = [value for value in unlisted_values(variable, before) if value.casefold() not in listed]
    one_side = [value for value in strange if is_held_out(variable.name, value) == held_out]
    return one_side or strange or locale_data("detours")["unlisted"]
