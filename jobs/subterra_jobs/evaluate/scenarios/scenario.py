"""One evaluation scenario."""

from collections.abc import Mapping
from dataclasses import dataclass

from subterra_core.procedure.graph import Path
from subterra_jobs.evaluate.scenarios.customer_profiles import Challenge, Profile

Lines = tuple[str, ...]
Mark = tuple[object, ...]
"""What tells whether a customer was in the training data: the words, or path and values where the words are not known yet."""


@dataclass(frozen=True)
class Scenario:
    """One customer. ``id`` is a digest of what the customer does.

    A scripted customer has ``lines``: the turns in order, the opener first. One that a model plays has a profile and ``wishes``.
    """

    id: str
    unseen: bool
    path: Path
    values: dict[str, str]
    opener: str | None
    lines: Lines
    agent_first: bool
    context: str = ""
    """What the agent is told about this customer, beyond its system prompt."""
    profile: Profile | None = None
    wishes: tuple[str, ...] = ()
    """What the customer says or decides, turn by turn, with ``{{name}}`` for values; the words are the simulator's."""
    challenge: Challenge | None = None
    touched: bool = False
    """Whether an edit since a reference was compiled changes what is right here: the two are not compared then."""

    @property
    def mark(self) -> Mark:
        """See `Mark`."""
        return self.lines or customer(self.path, self.values)


def poses_challenge(scenario: Scenario) -> bool:
    """Whether this customer gives any agent something to handle gracefully: a challenge, or a path that comes back to a node."""
    return scenario.challenge is not None or len(set(scenario.path)) < len(scenario.path)


def customer(path: Path, values: Mapping[str, str]) -> Mark:
    """Who takes which way, whatever the words."""
    return (tuple(path), tuple(sorted(values.items())))
