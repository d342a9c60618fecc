"""A flowchart as an importer reads it: steps of a speaker, choices between ways, silent steps and ends. Pure.

An importer describes what a source says and no more; `subterra_cli.imports.drafts.draft_procedure` makes a procedure of it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from subterra_cli.errors import CommandError

MAX_WHEN, MAX_PROMPT, MAX_EXAMPLE, MAX_EXAMPLES, MAX_VALUE = 500, 4000, 1000, 50, 200
"""Longest texts and lists of the procedure language."""
MAX_WAYS = 20
MAX_STEPS = 5000
"""More than any procedure has; calls of what calls others are expanded, and could grow without end."""
_DEEPEST = 50


class DraftError(CommandError):
    """What was read makes no procedure; the message says why and what to do."""


Kind = Literal["agent", "user", "tool", "choice", "pass", "end"]


@dataclass(frozen=True)
class Way:
    """A way out of a step, to the step with the key `to`."""

    to: str
    when: str = ""
    """The condition in words; empty if the source does not say it."""
    examples: tuple[str, ...] = ()
    fact: str = ""
    """The variable whose `values` decide, if it is one variable."""
    values: tuple[str, ...] = ()
    otherwise: bool = False
    """Whether it is taken when no other way is."""


@dataclass
class Step:
    """A step of the source. A `choice` has several ways, a `pass` step says nothing, an `end` step is where it ends."""

    key: str
    kind: Kind
    name: str
    """What the node's id is made of."""
    prompt: str = ""
    examples: tuple[str, ...] = ()
    ways: list[Way] = field(default_factory=list)
    tool: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    outcome: str = "success"
    decided_by: Literal["customer", "fact"] = "customer"
    """Of a choice, and of the hub that it becomes."""
    fact: str = ""


@dataclass
class Draft:
    """All that a source says about a conversation."""

    steps: dict[str, Step] = field(default_factory=dict)
    start: str = ""
    opening: str = ""
    """What the customer says first, where the source begins with a step of no speaker."""
    system_prompt: str = ""
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    off_topic: tuple[str, ...] = ()
    unknown_value: tuple[str, ...] = ()
    pass_known: bool = False
    """Whether tools without declared parameters are called with all that the customer has said."""
    notes: list[str] = field(default_factory=list)
    """What was left out, for the author."""

    def add(self, step: Step) -> Step:
        """Adds `step` and returns it. Raises DraftError where there are too many."""
        self.steps[step.key] = step
        if len(self.steps) > MAX_STEPS:
            raise DraftError(
                f"{step.name!r}: there are more than {MAX_STEPS:,} steps, with those that are called; import a part of it"
            )
        return step

    def variable(self, name: str, **fields: Any) -> str:
        """Declares a variable unless it is declared; returns its name. Without `visibility` it is decided from its uses."""
        self.variables.setdefault(name, {"name": name, **fields})
        return name


def one_line(text: str, longest: int = MAX_PROMPT) -> str:
    """`text` without line breaks and runs of spaces, and not longer than `longest`."""
    plain = " ".join(text.split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1].rstrip()}…"


def node_id(name: str, fallback: str = "node") -> str:
    """A valid id that reads like `name`."""
    plain = re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_").lower()[:40].strip("_")
    if not plain:
        return fallback
    return plain if plain[0].isalpha() else f"{fallback}_{plain}"


def unused(preferred: str, taken: Iterable[str]) -> str:
    """`preferred`, with a number behind it if it is among `taken`."""
    used = set(taken)
    candidates = (preferred, *(f"{preferred}_{number}" for number in range(2, len(used) + 3)))
    return next(name for name in candidates if name not in used)


def skip_silent(draft: Draft) -> None:
    """Leads ways around `pass` steps; a circle of such steps, and one without a way, is an end."""
    end = draft.add(Step(unused("end", draft.steps), "end", "closing"))

    def behind(key: str) -> str:
        seen = set[str]()
        while (step := draft.steps.get(key)) and step.kind == "pass":
            if key in seen or not step.ways:
                return end.key
            seen.add(key)
            key = step.ways[0].to
        return key

    for step in draft.steps.values():
        step.ways = [replace(way, to=behind(way.to)) for way in step.ways]
    draft.start = behind(draft.start)
    draft.steps = {key: step for key, step in draft.steps.items() if step.kind != "pass"}


def flatten_choices(draft: Draft) -> None:
    """Joins a choice that follows another one directly, of the same decider, into it, as long as a node has room for its ways."""
    done = set[str]()
    for choice in [step for step in draft.steps.values() if step.kind == "choice"]:
        _flatten(draft, choice, (), done)


def _flatten(draft: Draft, choice: Step, above: tuple[str, ...], done: set[str]) -> None:
    if choice.key in done or len(above) > _DEEPEST:
        return
    inside = (*above, choice.key)
    ways = list[Way]()
    for way in choice.ways:
        after = draft.steps[way.to]
        if after.kind != "choice" or after.decided_by != choice.decided_by or after.key in inside:
            ways.append(way)
            continue
        _flatten(draft, after, inside, done)
        joined = [_both(way, then) for then in after.ways]
        ways += joined if len(choice.ways) + len(ways) + len(joined) <= MAX_WAYS else [way]
    choice.ways = ways
    done.add(choice.key)


def _both(first: Way, second: Way) -> Way:
    """A way that is taken where both are."""
    if first.otherwise and second.otherwise:
        return Way(second.to, otherwise=True)
    words = [way.when for way in (first, second) if way.when]
    when = "; ".join(words) if len(words) == 2 - first.otherwise - second.otherwise else ""
    if first.otherwise and when:
        when = f"Otherwise: {when}"
    if second.otherwise and when:
        when = f"{when}; nothing else"
    return Way(second.to, when, second.examples)


def reachable(draft: Draft) -> list[Step]:
    """The steps that a conversation can come to, in the order in which it does."""
    found: dict[str, Step] = {}
    waiting = [draft.start]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found[key] = draft.steps[key]
            waiting += [way.to for way in reversed(draft.steps[key].ways)]
    return list(found.values())
