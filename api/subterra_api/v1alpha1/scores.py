"""What an evaluation measured, and what the gate says of it. Parts of a CompileRun's status."""

from typing import Annotated, Literal

from pydantic import Field

from subterra_api.v1alpha1.base import StatusModel

VerdictResult = Literal["Pass", "Fail", "Inconclusive"]


class Interval(StatusModel):
    """A mean with its 95 % confidence interval."""

    mean: float
    """The mean that was measured."""
    low: float
    """The lower bound of the interval."""
    high: float
    """The upper bound of the interval."""


class Branch(StatusModel):
    """A way out of a hub, and how the conversations that took it ended."""

    hub: str
    """The node that decides."""
    to: str
    """The node that follows."""
    conversations: int
    """How many took it."""
    failures: int
    """How many of these failed."""


class Sample(StatusModel):
    """Values: what is needed for an interval of their mean at any level."""

    count: int
    """How many values."""
    mean: float
    """Their mean."""
    sd: float
    """Their standard deviation (n - 1)."""


class Difference(Sample):
    """Candidate minus reference, scenario by scenario, by the mean of the judges."""

    judges: tuple[float, ...] = ()
    """Each judge's own mean difference."""


class Tally(StatusModel):
    """A share, in counts."""

    hits: int
    """How many did."""
    of: int
    """Of how many."""


class Discordant(StatusModel):
    """Scenarios in which only one side failed."""

    worse: int
    """Only the candidate failed."""
    better: int
    """Only the reference failed."""
    of: int
    """Scenarios compared."""


class Comparison(StatusModel):
    """The candidate beside a reference, on the scenarios that the edit between them does not touch."""

    against: str
    """serving or anchor."""
    criteria: dict[str, Difference]
    """Differences of each criterion; Graceful Handling where the customer posed a challenge."""
    failures: Discordant
    """Who failed alone."""


class Statistics(StatusModel):
    """What the gate decides by: no bounds, since their level depends on how many attempts there were."""

    criteria: dict[str, Sample]
    """The candidate's own scores; what could not be played or judged counts as 1."""
    failures: Tally
    """Conversations with a Task Success of 3 or less."""
    conformance: Tally
    """Conversations that follow the procedure to its end."""
    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=2)] = ()
    """Beside the serving version, and beside the anchor."""
    missing: float = 0.0
    """Share of the judgements that the judges did not give."""


class Scores(StatusModel):
    """What the evaluation measured, as far as the gate needs it."""

    scenarios: int
    """How many conversations were played."""
    planned: int | None = None
    """How many were meant to be; with fewer the evaluation ended early, since the gate was far out of reach."""
    criteria: dict[str, Interval]
    """taskSuccess, informationAccuracy, consistency, gracefulHandling, naturalness; 1 to 5."""
    failure_rate: Interval
    """Share of conversations with a Task Success of 3 or less."""
    conformance: Interval
    """Share of conversations that follow the procedure to its end."""
    turns_per_conversation: float
    """Mean number of agent turns."""
    slots_exact: float | None = None
    """Share of the customer's values that the agent repeated exactly."""
    branches_judged: int | None = None
    """How many branches were taken in 30 conversations or more."""
    worst_branches: Annotated[tuple[Branch, ...], Field(max_length=8)] | None = None
    """Those that fail most: up to five of them, then up to three of fewer conversations, which are told and block nothing."""
    statistics: Statistics | None = None
    """What the gate decides by."""

    @property
    def ended_early(self) -> bool:
        """Whether fewer were played than were meant to be."""
        return self.planned is not None and self.scenarios < self.planned


class Verdict(StatusModel):
    """The gate's decision and why."""

    result: VerdictResult
    """Pass, Fail or Inconclusive."""
    reasons: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Which checks decided, each with its interval and its floor, and what else a person should know."""
