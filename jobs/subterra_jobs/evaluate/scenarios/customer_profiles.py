"""Who a customer is beyond the path and the values: character, ways, and whether the conversation is made difficult. Pure.

Every kind comes as often as the others of its list (personas by their weights), in a random order of its own, so that no two lists
go together.
"""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.sampling import sample_values

STYLES = {
    "specific": "Gives exact details in full sentences, unasked where they fit.",
    "plain": "Answers what is asked, in everyday words.",
    "brief": "Answers in a few words.",
    "vague": "Speaks in general terms, and gives each detail only when asked for it.",
}
SATISFACTION = {
    "content": "Is easily pleased.",
    "neutral": "Expects decent service.",
    "demanding": "Is hard to please, and says so, without deciding otherwise for it.",
}
REALISM = {
    "realistic": "Knows what can be had.",
    "hopeful": "Expects a little too much, and accepts it when told that it cannot be had.",
}
GROUPS = {
    "alone": "Speaks for nobody else.",
    "others": "Speaks for others too, mentions what they think, and sticks to the situation and the wishes all the same.",
}
ChallengeKind = Literal["change of mind", "ambiguity", "contradiction"]
CHALLENGES: tuple[ChallengeKind | None, ...] = (None, "change of mind", None, "ambiguity", None, "contradiction")
"""Half of the customers make it difficult."""
_TRIES = 20


@dataclass(frozen=True)
class Challenge:
    """What a customer does at a set turn, counted from 0. ``about`` is a variable, ``other`` a value that is not the true one."""

    kind: ChallengeKind
    turn: int
    about: str = ""
    other: str = ""


@dataclass(frozen=True)
class Profile:
    """Names of kinds; what they mean stands above, and in the procedure for the persona."""

    persona: str
    style: str
    satisfaction: str
    realism: str
    group: str
    challenge: ChallengeKind | None


def deal(spec: ProcedureSpec, count: int, seed: int) -> list[Profile]:
    """So many customers."""

    def hand(name: str, kinds: Sequence[str], weights: Sequence[int] | None = None) -> list[str]:
        return [kinds[card] for card in _cards(weights or [1] * len(kinds), count, random.Random(f"evaluate/{seed}/{name}"))]

    personas = hand("persona", [each.name for each in spec.personas] or [""], [each.weight for each in spec.personas] or None)
    lists = {"style": STYLES, "satisfaction": SATISFACTION, "realism": REALISM, "group": GROUPS}
    hands = [hand(name, list(kinds)) for name, kinds in lists.items()]
    challenges = _cards([1] * len(CHALLENGES), count, random.Random(f"evaluate/{seed}/challenge"))
    return [Profile(*person) for person in zip(personas, *hands, [CHALLENGES[card] for card in challenges], strict=True)]


def _cards(weights: Sequence[int], count: int, rng: random.Random) -> list[int]:
    """Places of the weights, each as often as its weight says, shuffled."""
    ends = list(accumulate(weights))
    cards = [bisect_right(ends, (number + 0.5) / count * ends[-1]) for number in range(count)]
    rng.shuffle(cards)
    return cards


def challenge(
    graph: Graph, path: Path, values: Mapping[str, str], kind: ChallengeKind | None, rng: random.Random, *,
    unseen: bool, greeted: bool,
) -> Challenge | None:  # fmt: skip
    """The challenge on this path: ambiguity where nothing can be changed. ``greeted``: an opener comes before the path's turns."""
    if kind is None:
        return None
    turns = [graph.nodes[node] for node in path if graph.nodes[node].role == "user"]
    if not turns:
        return None
    at = rng.randrange(1, len(turns)) if len(turns) > 1 else 0
    place = at + greeted
    told = {name for node in turns[: at + 1] for name in variables_of(node.prompt)}
    # A fact decides where the conversation goes; it must stay what it is.
    free = [v for v in graph.spec.variables if v.visibility == "customer" and v.name in told and v.name not in graph.facts]
    if kind == "ambiguity" or not at or not free:
        return Challenge("ambiguity", place)
    about = rng.choice(free)
    for _ in range(_TRIES):
        other = sample_values([about], rng, unseen=unseen)[about.name]
        if other != values[about.name]:
            return Challenge(kind, place, about.name, other)
    return Challenge("ambiguity", place)
