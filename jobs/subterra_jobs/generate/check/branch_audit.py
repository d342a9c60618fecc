"""Audits whether the customer's words identify the branch taken: what a reader cannot tell, no compiled model can learn. Pure.

A blind reader sees a pilot conversation up to the customer's turn, with the branches open there, and guesses which one is taken.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.written_conversation import Conversation

MIN_AGREEMENT = 0.90
"""Share of a hub's decisions that must be identified correctly."""
MAX_DROPPED_SHARE = 0.5
"""Share of the pilot that may be dropped."""
_TOLERATED_ERRORS = 1
"""Wrong guesses tolerated per hub: one error among few readings is no evidence."""


@dataclass(frozen=True)
class HubAgreement:
    """How often the branch taken at one hub was identified, and which confusion was the most frequent."""

    hub: str
    readings: int
    right: int
    confused: tuple[str, str] | None
    """The branch taken and the branch guessed; the guess is empty if the reader chose none."""

    @property
    def share(self) -> float:
        """Share of the readings that are right, between 0 and 1."""
        return self.right / self.readings

    @property
    def undecidable(self) -> bool:
        """True if the branches cannot be told apart well enough."""
        return self.share < MIN_AGREEMENT and self.readings - self.right > _TOLERATED_ERRORS


@dataclass(frozen=True)
class BranchAudit:
    """All hubs with decisions in the pilot, the worst first."""

    conversations: int
    hubs: tuple[HubAgreement, ...]

    @property
    def message(self) -> str:
        """The audit in one line; empty if there were no decisions."""
        readings = sum(hub.readings for hub in self.hubs)
        if not readings:
            return ""
        right, worst = sum(hub.right for hub in self.hubs), self.hubs[0]
        summary = f"branch audit: {right}/{readings} decisions identifiable"
        if right < readings:
            summary += f", at hub {worst.hub} {worst.right}/{worst.readings}"
        undecidable = ", ".join(hub.hub for hub in self.hubs if hub.undecidable)
        return f"{summary}; no model can learn to decide at {undecidable} from such words" if undecidable else summary

    def to_dict(self, graph: Graph) -> dict[str, Any]:
        """The content of ``audit.json``."""
        return {"conversations": self.conversations, "needed": MIN_AGREEMENT, "hubs": [_row(graph, hub) for hub in self.hubs]}


def audit_branches(conversations: Iterable[Conversation]) -> BranchAudit:
    """The audit of the pilot conversations that were not dropped."""
    pilot = [conversation for conversation in conversations if conversation.spec.audited and conversation.drop_reason is None]
    guesses: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for conversation in pilot:
        path = conversation.spec.path
        for decision, guess in zip(conversation.spec.audited, conversation.guesses, strict=True):
            guesses[path[decision.position]].append((path[decision.position + 1], guess))
    hubs = [_agreement(hub, pairs) for hub, pairs in guesses.items()]
    return BranchAudit(len(pilot), tuple(sorted(hubs, key=lambda hub: (hub.share, hub.hub))))


def require_decidable(graph: Graph, audit: BranchAudit) -> None:
    """Raises InvalidInputError naming the hubs whose branches cannot be told apart."""
    if problems := [_problem(graph, hub) for hub in audit.hubs if hub.undecidable]:
        raise InvalidInputError("; ".join((*problems, "to continue anyway, set generation.audit to Report")))


def require_usable(conversations: Iterable[Conversation]) -> None:
    """Raises InvalidInputError with the reasons if too much of the pilot was dropped: the rest, not paid for yet, would be too."""
    pilot = [conversation.drop_reason for conversation in conversations if conversation.spec.audited]
    dropped = [reason for reason in pilot if reason]
    if len(dropped) > MAX_DROPPED_SHARE * len(pilot):
        reasons = "; ".join(sorted(set(dropped))[:3])
        raise InvalidInputError(
            f"{len(dropped)} of the first {len(pilot)} conversations were dropped, so the rest is not written: {reasons}. "
            "Give the teacher what it lacks (a variable or knowledge for what it makes up, a clearer prompt), or use another model"
        )


def _agreement(hub: str, pairs: Sequence[tuple[str, str]]) -> HubAgreement:
    wrong = Counter(pair for pair in pairs if pair[0] != pair[1])
    confused = min(wrong, key=lambda pair: (-wrong[pair], pair)) if wrong else None
    return HubAgreement(hub, len(pairs), len(pairs) - wrong.total(), confused)


def _row(graph: Graph, hub: HubAgreement) -> dict[str, Any]:
    row: dict[str, Any] = {"hub": hub.hub, "readings": hub.readings, "right": hub.right, "agreement": round(hub.share, 3)}
    if hub.confused is not None:
        taken, guess = hub.confused
        whens = {"when": _when(graph, hub.hub, taken), "readAsWhen": _when(graph, hub.hub, guess)}
        row["confused"] = {"taken": taken, "readAs": guess, **whens}
    return row


def _problem(graph: Graph, hub: HubAgreement) -> str:
    taken, guess = hub.confused or ("", "")
    confusion = f'"{_when(graph, hub.hub, taken)}" is read as "{_when(graph, hub.hub, guess)}"' if guess else "often no branch fits"
    return (
        f"hub {hub.hub}: a blind reader identifies the branch from the customer's words in {hub.right} of {hub.readings} cases "
        f"({hub.share:.0%}, needed {MIN_AGREEMENT:.0%}), so no model could learn it; {confusion}. Reword these branches (`when` "
        "and examples) so that the customer's words tell them apart, or merge them"
    )


def _when(graph: Graph, hub: str, target: str) -> str:
    edge = graph.edge(hub, target)
    return edge.when or "" if edge else ""
