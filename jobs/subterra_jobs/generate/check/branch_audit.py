"""Whether customers' words tell their decisions: what a blind reader makes of the pilot bounds what any compiled model can. Pure.

The reader sees a conversation up to the customer's turn and the branches that are open there, and guesses which is taken.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.conversation import Conversation

NEEDED = 0.90
"""Share of a hub's decisions that must be read right."""
MOST_DROPPED = 0.5
"""Share of the pilot that may turn out unfit."""
_SLIPS = 1
"""Misreadings of one hub that are let pass: a single one in a few readings tells nothing."""


@dataclass(frozen=True)
class Agreement:
    """How often one hub's branch was guessed right, and which branch was most often taken for which."""

    hub: str
    readings: int
    right: int
    confused: tuple[str, str] | None
    """Taken, and guessed; the guess is empty when the reader named no branch."""

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.right / self.readings

    @property
    def undecidable(self) -> bool:
        """Too low to go on."""
        return self.share < NEEDED and self.readings - self.right > _SLIPS


@dataclass(frozen=True)
class Audit:
    """All hubs of which the pilot has decisions, the worst first."""

    conversations: int
    hubs: tuple[Agreement, ...]

    @property
    def message(self) -> str:
        """The audit in a sentence; empty when there was nothing to decide."""
        readings = sum(hub.readings for hub in self.hubs)
        if not readings:
            return ""
        right, worst = sum(hub.right for hub in self.hubs), self.hubs[0]
        low = ", ".join(hub.hub for hub in self.hubs if hub.undecidable)
        told = f"a blind reader found {right / readings:.0%} of {readings} decisions, at hub {worst.hub} {worst.share:.0%}"
        return f"{told}; no model can learn {low} from such words" if low else told

    def dump(self, graph: Graph) -> dict[str, Any]:
        """What goes into ``audit.json``."""
        return {"conversations": self.conversations, "needed": NEEDED, "hubs": [_row(graph, hub) for hub in self.hubs]}


def audit(conversations: Iterable[Conversation]) -> Audit:
    """What was read in those conversations of the pilot that were not dropped."""
    read = [each for each in conversations if each.slot.audited and each.dropped is None]
    guesses: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in read:
        path = each.slot.path
        for decision, guess in zip(each.slot.audited, each.guesses, strict=True):
            guesses[path[decision.position]].append((path[decision.position + 1], guess))
    found = [_agreement(hub, pairs) for hub, pairs in guesses.items()]
    return Audit(len(read), tuple(sorted(found, key=lambda hub: (hub.share, hub.hub))))


def require_decidable(graph: Graph, found: Audit) -> None:
    """Raises InvalidInputError that names the hubs whose branches nobody could tell apart."""
    if bad := [_complaint(graph, hub) for hub in found.hubs if hub.undecidable]:
        raise InvalidInputError("; ".join((*bad, "with generation.audit: Report the run goes on all the same")))


def require_usable(conversations: Iterable[Conversation]) -> None:
    """Raises InvalidInputError that says why so many of the pilot were dropped: the rest would be, and is not paid yet."""
    faults = [each.dropped for each in conversations if each.slot.audited]
    dropped = [fault for fault in faults if fault]
    if len(dropped) > MOST_DROPPED * len(faults):
        told = "; ".join(sorted(set(dropped))[:3])
        raise InvalidInputError(
            f"{len(dropped)} of the first {len(faults)} conversations were dropped, so the rest is not written: {told}. "
            "Give the teacher what it lacks (a variable or knowledge for what it makes up, a clearer prompt), or use another model"
        )


def _agreement(hub: str, pairs: Sequence[tuple[str, str]]) -> Agreement:
    wrong = Counter(pair for pair in pairs if pair[0] != pair[1])
    confused = min(wrong, key=lambda pair: (-wrong[pair], pair)) if wrong else None
    return Agreement(hub, len(pairs), len(pairs) - wrong.total(), confused)


def _row(graph: Graph, hub: Agreement) -> dict[str, Any]:
    row: dict[str, Any] = {"hub": hub.hub, "readings": hub.readings, "right": hub.right, "agreement": round(hub.share, 3)}
    if hub.confused is not None:
        taken, guess = hub.confused
        whens = {"when": _when(graph, hub.hub, taken), "readAsWhen": _when(graph, hub.hub, guess)}
        row["confused"] = {"taken": taken, "readAs": guess, **whens}
    return row


def _complaint(graph: Graph, hub: Agreement) -> str:
    taken, guess = hub.confused or ("", "")
    mistaken = f'takes "{_when(graph, hub.hub, taken)}" for "{_when(graph, hub.hub, guess)}"' if guess else "often finds none"
    return (
        f"hub {hub.hub}: from the customer's words a blind reader finds the branch in {hub.right} of {hub.readings} cases "
        f"({hub.share:.0%}, needed {NEEDED:.0%}), so no model could learn it; it {mistaken}. Reword these branches (`when` and "
        "examples) so that what a customer says tells them apart, or make them one"
    )


def _when(graph: Graph, hub: str, target: str) -> str:
    edge = graph.edge(hub, target)
    return edge.when or "" if edge else ""
