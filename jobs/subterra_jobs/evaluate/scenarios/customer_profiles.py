"""Customer profiles: persona, style, attitude, and whether the customer poses a challenge. Pure.

Each kind is as frequent as the others of its list (personas by weight), each list in its own random order, so that no two lists
correlate.
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
from subterra_jobs.dialogue.anywhere_paths import leaves_at
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
"""Half of the customers pose a challenge."""
_TRIES = 20


@dataclass(frozen=True)
class Challenge:
    """A difficulty at `turn`, counted from 0. `about` is a variable, `other` an untrue value of it. Hashed into scenario ids."""

    kind: ChallengeKind
    turn: int
    about: str = ""
    other: str = ""


@dataclass(frozen=True)
class CustomerProfile:
    """Kinds from the lists above; personas are those of the procedure. Hashed into ids."""

    persona: str
    style: str
    satisfaction: str
    realism: str
    group: str
    challenge: ChallengeKind | None


def assign_profiles(spec: ProcedureSpec, count: int, seed: int) -> list[CustomerProfile]:
    """Profiles of `count` customers."""

    def spread(name: str, kinds: Sequence[str], weights: Sequence[int] | None = None) -> list[str]:
        rng = random.Random(f"evaluate/{seed}/{name}")
        return [kinds[index] for index in _balanced_sequence(weights or [1] * len(kinds), count, rng)]

    personas = spread("persona", [p.name for p in spec.personas] or [""], [p.weight for p in spec.personas] or None)
    lists = {"style": STYLES, "satisfaction": SATISFACTION, "realism": REALISM, "group": GROUPS}
    traits = [spread(name, list(kinds)) for name, kinds in lists.items()]
    indexes = _balanced_sequence([1] * len(CHALLENGES), count, random.Random(f"evaluate/{seed}/challenge"))
    challenges = [CHALLENGES[index] for index in indexes]
    return [CustomerProfile(*profile) for profile in zip(personas, *traits, challenges, strict=True)]


def _balanced_sequence(weights: Sequence[int], count: int, rng: random.Random) -> list[int]:
    """Indexes of `weights`, each as often as its weight says, shuffled."""
    ends = list(accumulate(weights))
    indexes = [bisect_right(ends, (number + 0.5) / count * ends[-1]) for number in range(count)]
    rng.shuffle(indexes)
    return indexes


def draw_challenge(
    graph: Graph,
    path: Path,
    values: Mapping[str, str],
    kind: ChallengeKind | None,
    rng: random.Random,
    *,
    unseen: bool,
    greeted: bool,
) -> Challenge | None:
    """The challenge on this path; ambiguity where no value can change. `greeted`: an opener precedes the path's turns."""
    places = [index for index, node in enumerate(path) if graph.nodes[node].role == "user"]
    turns = [graph.nodes[path[index]] for index in places]
    if kind is None or not turns:
        return None
    index = rng.randrange(1, len(turns)) if len(turns) > 1 else 0
    if leaves_at(graph, path, places[index]):
        return None  # who leaves must not be misunderstood
    turn = index + greeted
    said = [node for node, place in zip(turns[: index + 1], places, strict=False) if not leaves_at(graph, path, place)]
    mentioned = {name for node in said for name in variables_of(node.prompt)}
    # A fact decides the path, so it must not change.
    free = [v for v in graph.spec.variables if v.visibility == "customer" and v.name in mentioned and v.name not in graph.facts]
    if kind == "ambiguity" or not index or not free:
        return Challenge("ambiguity", turn)
    about = rng.choice(free)
    for _ in range(_TRIES):
        other = sample_values([about], rng, unseen=unseen)[about.name]
        if other != values[about.name]:
            return Challenge(kind, turn, about.name, other)
    return Challenge("ambiguity", turn)
