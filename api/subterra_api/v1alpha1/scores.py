"""Results of an evaluation and the gate's verdict: parts of a CompileRun's status."""

from typing import Annotated, Literal

from pydantic import Field

from subterra_api.v1alpha1.base import StatusModel

VerdictResult = Literal["Pass", "Fail", "Inconclusive"]
RobustnessKind = Literal["phrasings", "unknownValues", "realValues", "offTopic", "corrections", "afterEnd"]


class Interval(StatusModel):
    """A mean with its 95% confidence interval."""

    mean: float
    """The observed mean."""
    low: float
    """Lower bound of the interval."""
    high: float
    """Upper bound of the interval."""


class Branch(StatusModel):
    """A branch of a hub, and the conversations that took it."""

    hub: str
    """The node that decides."""
    to: str
    """The node that follows."""
    conversations: int
    """Number of conversations that took it."""
    failures: int
    """Number of these that failed."""


class SampleStats(StatusModel):
    """Count, mean and standard deviation: enough for a confidence interval of the mean at any level."""

    count: int
    """Number of values."""
    mean: float
    """Their mean."""
    sd: float
    """Their sample standard deviation (n - 1)."""


class Difference(SampleStats):
    """Paired differences, candidate minus reference, of the judges' mean score."""

    judges: tuple[float, ...] = ()
    """Mean difference according to each judge."""


class Proportion(StatusModel):
    """A proportion, as counts."""

    hits: int
    """Number of hits."""
    of: int
    """Total number."""


class DiscordantPairs(StatusModel):
    """Scenarios in which exactly one side failed."""

    worse: int
    """Number in which only the candidate failed."""
    better: int
    """Number in which only the reference failed."""
    of: int
    """Number of scenarios compared."""


class Comparison(StatusModel):
    """The candidate compared with a reference, on the scenarios not affected by the edits between them."""

    against: str
    """The reference: serving or anchor."""
    criteria: dict[str, Difference]
    """Differences per criterion; Graceful Handling counts only scenarios in which the customer posed a challenge."""
    failures: DiscordantPairs
    """Scenarios in which exactly one side failed."""


class Statistics(StatusModel):
    """Sufficient statistics for the gate. They hold no bounds, whose level depends on the number of attempts."""

    criteria: dict[str, SampleStats]
    """The candidate's scores; a conversation that could not be simulated or judged counts as 1."""
    failures: Proportion
    """Conversations with a Task Success of 3 or less."""
    conformance: Proportion
    """Conversations that follow the procedure to its end."""
    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=2)] = ()
    """Comparisons with the serving version and with the anchor."""
    missing: float = 0.0
    """Share of judgements that are missing."""


class RobustnessScore(StatusModel):
    """Customers who say what the examples do not have, of one kind."""

    kind: RobustnessKind
    """phrasings: other words. unknownValues: a value outside a closed list. realValues: real names. offTopic: something else in
    between. corrections: a value corrected in the same turn. afterEnd: the customer goes on after the end."""
    hits: int
    """Number of conversations in which the agent handled it."""
    of: int
    """Number of conversations that came to it; 0 if it was not tested."""


class MeanTokens(StatusModel):
    """Tokens of the mean conversation with the candidate, from which the price of other ways to run the procedure is computed."""

    prompt: float
    """Tokens that the candidate read, over all turns."""
    completion: float
    """Tokens that it wrote."""
    procedure: int
    """Tokens of the whole procedure as one prompt, approximately."""
    nodes: int
    """Number of nodes of the procedure."""
    hubs: float
    """Hubs that the conversation passed."""


class Scores(StatusModel):
    """Results of the evaluation."""

    scenarios: int
    """Number of simulated conversations."""
    planned: int | None = None
    """Number of planned conversations; if fewer were simulated, the evaluation stopped early because the gate was out of reach."""
    criteria: dict[str, Interval]
    """Means of taskSuccess, informationAccuracy, consistency, gracefulHandling and naturalness, 1 to 5."""
    failure_rate: Interval
    """Share of conversations with a Task Success of 3 or less."""
    conformance: Interval
    """Share of conversations that follow the procedure to its end."""
    turns_per_conversation: float
    """Mean number of agent turns."""
    tokens: MeanTokens | None = None
    """Tokens of the mean conversation. Absent if evaluated by an earlier release."""
    slots_exact: float | None = None
    """Share of the customer's values that the agent repeated exactly."""
    branches_judged: int | None = None
    """Number of branches with 30 or more conversations."""
    worst_branches: Annotated[tuple[Branch, ...], Field(max_length=8)] | None = None
    """Branches with the most failures: up to five of those, then a few with fewer conversations, which are only reported."""
    fabrication: Proportion | None = None
    """Values that neither the customer nor the context gave, of all values that the agent asserted; absent if not measured."""
    robustness: Annotated[tuple[RobustnessScore, ...], Field(max_length=8)] | None = None
    """Customers who say what the examples do not have, by kind; they count in no other score. Absent if they were not simulated."""
    covers: Literal["scripted customers", "replies that rules recognize"] | None = None
    """What the verdict covers, where customers or judges are scripted."""
    statistics: Statistics | None = None
    """Sufficient statistics for the gate."""

    @property
    def ended_early(self) -> bool:
        """Whether fewer conversations were simulated than planned."""
        return self.planned is not None and self.scenarios < self.planned


class Verdict(StatusModel):
    """The gate's decision and its reasons."""

    result: VerdictResult
    """Pass, Fail or Inconclusive."""
    reasons: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Checks that decided, each with its interval and floor, and advisories."""
