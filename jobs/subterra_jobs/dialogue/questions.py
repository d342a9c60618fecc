"""Questions that the customer asks in between: at which turns, in which words, and what the agent answers. Pure.

The exchange is a `Detour`: it uses no edge, and after the answer, which ends with the question that the agent had asked, the
conversation is where it was.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, answer_texts, questions_by_name
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.detours import Detour
from subterra_jobs.dialogue.phrasing.language import speaks_english
from subterra_jobs.dialogue.phrasing.locale_data import locale_data
from subterra_jobs.errors import InvalidInputError

AUTHORS_SHARE = 0.5
"""Share of an author's example, unchanged, among the words for training."""
_SMALL_SHARE = 0.3
_FEWEST_UNKNOWN = 5
_WORD = re.compile(r"[a-z]{4,}")


@dataclass(frozen=True)
class AskedQuestion:
    """A question that the customer asks in one conversation."""

    name: str
    """See `question_name`; `UNKNOWN_QUESTION` for one that has no answer."""
    position: int
    """Index on the path of the customer's node before whose words it is asked."""


def asking_positions(graph: Graph, path: Path) -> list[int]:
    """Indexes of the customer's turns on a path; exceptions of a question are left to the caller."""
    roles = ["", *(graph.nodes[node].role for node in path)]
    return [position for position, (before, role) in enumerate(pairwise(roles)) if role == "user" != before]


def closed_nodes(spec: ProcedureSpec) -> dict[str, frozenset[str]]:
    """For each question, the nodes at which nobody asks it; none for one that has no answer."""
    return {name: frozenset(each.except_) for name, each in questions_by_name(spec).items()} | {UNKNOWN_QUESTION: frozenset()}


def turn_number(graph: Graph, path: Path, position: int) -> int:
    """Number of the customer's turns on a path before that at `position`."""
    roles = ["", *(graph.nodes[node].role for node in path[:position])]
    return sum(role == "user" != before for before, role in pairwise(roles))


def question_words(spec: ProcedureSpec, name: str, rng: random.Random, *, held_out: bool) -> str:
    """What the customer says. Raises InvalidInputError for a question without examples."""
    data, side = _data(), "held_out" if held_out else "train"
    if name == UNKNOWN_QUESTION:
        examples: Sequence[str] = _unknown_questions(spec, side)
    else:
        examples = questions_by_name(spec)[name].examples
    if not examples:
        raise InvalidInputError(
            f"question {name} has no examples, which the scripted teacher needs; add some, or use another teacher"
        )
    example = rng.choice(examples)
    if not speaks_english(spec) or (not held_out and rng.random() < AUTHORS_SHARE):
        return example
    said = rng.choice(data["frames"][side]).format(question=example)
    return _typed(said, data["small"]) if rng.random() < _SMALL_SHARE else said


def question_detour(graph: Graph, path: Path, asked: AskedQuestion, words: str, rng: random.Random) -> Detour:
    """The exchange: the customer's `words`, then the author's answer, behind which `with_detour` repeats the agent's question."""
    data, at = _data(), turn_number(graph, path, asked.position)
    unasked = at == 0 and graph.nodes[path[0]].role == "user"
    answer = rng.choice(answer_texts(graph.spec, asked.name))
    going_on = rng.choice(data["nothing_asked"] if unasked else data["take_up"]) if speaks_english(graph.spec) else ""
    return Detour("question", at, words, f"{answer} {going_on}".strip(), asked.name)


def ways_to_go_on() -> tuple[str, ...]:
    """What may stand between an answer and the question that is asked again."""
    return tuple(filter(None, _data()["take_up"]))


def content_words(text: str) -> frozenset[str]:
    """Words of four letters and more that say what a text is about."""
    return frozenset(_WORD.findall(text.lower())) - _function_words()


def _data() -> Mapping[str, Any]:
    return locale_data("questions")


@lru_cache(maxsize=1)
def _function_words() -> frozenset[str]:
    return frozenset(_data()["function_words"])


def _typed(text: str, small: Sequence[str]) -> str:
    """The text as somebody types it in a hurry."""
    first = text.split(" ", 1)[0]
    text = text[0].lower() + text[1:] if first.lower() in small else text
    return text.removesuffix("?")


@lru_cache(maxsize=16)
def _own_words(spec: ProcedureSpec) -> frozenset[str]:
    texts = [spec.system_prompt, *(fact.text for fact in spec.knowledge)]
    texts += [text for each in spec.questions for text in (each.question, each.answer, *each.examples)]
    for node in spec.nodes:
        texts += [node.prompt, *node.examples, *(text for edge in node.next for text in (edge.when or "", *edge.examples))]
    texts += [text for each in spec.anywhere for text in (each.when, *each.examples)]
    return content_words(" ".join(texts)).difference(name.lower() for text in texts for name in variables_of(text))


def _unknown_questions(spec: ProcedureSpec, side: str) -> Sequence[str]:
    """Questions that share no word with the procedure; the least related ones where these are few."""
    found, own = _data()["unknown"][side], _own_words(spec)
    related = {text: len(content_words(text) & own) for text in found}
    strange = [text for text in found if not related[text]]
    return strange if len(strange) >= _FEWEST_UNKNOWN else sorted(found, key=related.__getitem__)[:_FEWEST_UNKNOWN]
