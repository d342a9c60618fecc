"""One evaluation scenario."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from subterra_api.v1alpha1.scores import RobustnessKind
from subterra_core.procedure.graph import Path
from subterra_jobs.evaluate.scenarios.customer_profiles import Challenge, CustomerProfile

Lines = tuple[str, ...]
_NUMBERED = re.compile(r"(?<=^[0-9a-f]{12})-\d+$")
CustomerSignature = tuple[object, ...]
"""Identifies a customer in the training data: the lines, or path and values where the lines are not known yet."""


@dataclass(frozen=True)
class Scenario:
    """One simulated customer. `id` is a digest of everything the customer does.

    A scripted customer has `lines`: the turns in order, the opener first. One played by a model has a `profile` and `goals`.
    """

    id: str
    unseen: bool
    path: Path
    values: dict[str, str]
    opener: str | None
    lines: Lines
    agent_first: bool
    context: str = ""
    """Context values as the agent sees them after its system prompt."""
    profile: CustomerProfile | None = None
    goals: tuple[str, ...] = ()
    """What the customer says or decides, turn by turn, with `{{name}}` for values; the simulator finds the words."""
    challenge: Challenge | None = None
    affected_by_edit: bool = False
    """Whether an edit since the reference was compiled changes what is right here; the scenario is then not compared."""
    kind: RobustnessKind | None = None
    """What the customer says that the examples do not have; `None` for a customer who counts in the scores."""
    detour_at: int | None = None
    """Index of the line that the flowchart has no place for."""
    unlisted: str = ""
    """The value in that line that is in no list."""
    asked: str = ""
    """Name of the question in that line."""

    @property
    def customer(self) -> str:
        """What the customers of equal scenarios share: their id without the number that keeps them apart."""
        return _NUMBERED.sub("", self.id)

    @property
    def signature(self) -> CustomerSignature:
        """See `CustomerSignature`."""
        return self.lines or path_signature(self.path, self.values)


def poses_challenge(scenario: Scenario) -> bool:
    """Whether there is something to handle gracefully: a challenge, or a path that returns to a node."""
    return scenario.challenge is not None or len(set(scenario.path)) < len(scenario.path)


def path_signature(path: Path, values: Mapping[str, str]) -> CustomerSignature:
    """Signature of a customer by path and values, whatever the words."""
    return (tuple(path), tuple(sorted(values.items())))
