"""Results of an evaluation and the gate's verdict: parts of a CompileRun's status."""

from typing import Annotated, Literal

from pydantic import Field

from subterra_api.v1alpha1.base import StatusModel

VerdictResult = Literal["Pass", "Fail", "Inconclusive"]
RobustnessKind = Literal["phrasings", "unknownValues", "realValues", "offTopic", "corrections", "afterEnd", "questions"]


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
    skew: float | None = None
    """Skewness of the differences; absent if an earlier version measured them."""


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
    """The candidate compared with a reference. What needs the procedure is compared on scenarios that no edit affects."""

    against: str
    """The reference: serving or anchor."""
    criteria: dict[str, Difference]
    """Differences per criterion: Task Success and Information Accuracy on scenarios that no edit affects, the others on all.
    Graceful Handling counts only where the customer posed a challenge."""
    failures: DiscordantPairs
    """Scenarios in which exactly one side failed."""
    conformance: DiscordantPairs | None = None
    """Scenarios in which exactly one side did not follow the procedure; absent if an earlier version compared."""
    scenarios: int | None = None
    """Number of scenarios that count, affected or not; absent if an earlier version compared."""
    common: int | None = None
    """Number of these that the reference has played too."""


class AffectedScenarios(StatusModel):
    """The candidate where an edit since the serving version changed what is right, so that the two cannot be compared."""

    criteria: dict[str, SampleStats]
    """Task Success and Information Accuracy."""
    failures: Proportion
    """Conversations with a Task Success of 3 or less."""
    conformance: Proportion
    """Conversations that follow the procedure to its end."""
    in_context: dict[str, Difference] = {}
    """Differences to the first InContext baseline, less those of the serving version where no edit applies."""


class JudgeReliability(StatusModel):
    """How far the judges agree with each other and with themselves."""

    kappa: float | None = None
    """Quadratically weighted kappa of the two judges, over all criteria; absent with one judge or few conversations."""
    disagreement: float | None = None
    """Root mean square of the differences of their scores."""
    repeat_sd: tuple[float, ...] = ()
    """Standard deviation of each judge's scores of the same conversation."""
    fingerprints: tuple[str, ...] = ()
    """Fingerprint of each judge: a digest of model, rubric and sampling."""


class Statistics(StatusModel):
    """Sufficient statistics for the gate. They hold no bounds, whose level depends on the number of attempts."""

    criteria: dict[str, SampleStats]
    """The candidate's scores; a conversation that could not be simulated, or that no judge has scored, counts as 1."""
    failures: Proportion
    """Conversations with a Task Success of 3 or less."""
    conformance: Proportion
    """Conversations that follow the procedure to its end."""
    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=2)] = ()
    """Comparisons with the serving version and with the anchor."""
    missing: float = 0.0
    """Share of judgements that are missing."""
    format: int = 1
    """2: the fields that are absent in scores of earlier versions are there."""
    repeated: int = 0
    """Number of conversations with a customer that another one had already; equal customers count as one."""
    affected: AffectedScenarios | None = None
    """The candidate where an edit changed what is right; absent if it changed nothing."""
    judging: JudgeReliability | None = None
    """Reliability of the judges; absent where rules judge."""


class RobustnessScore(StatusModel):
    """Customers who say what the examples do not have, of one kind."""

    kind: RobustnessKind
    """phrasings: other words. unknownValues: a value outside a closed list. realValues: real names. offTopic: something else in
    between. corrections: a value corrected in the same turn. afterEnd: the customer goes on after the end. questions: a question in
    between, answered or not; only where the procedure has questions."""
    hits: int
    """Number of conversations in which the agent handled it."""
    of: int
    """Number of conversations that came to it; 0 if it was not tested."""


class ToolScores(StatusModel):
    """What the agent did with its tools."""

    calls: Proportion
    """Calls that were made in their place, with the prescribed tool and exactly the values that were said, of all that were due."""
    unprescribed: int
    """Number of calls that the procedure does not prescribe where they were made, or that have other arguments."""
    invented_results: Proportion
    """Values of results that no tool had returned by then, of all that the agent stated."""


class TrialScores(StatusModel):
    """Customers who had several conversations with the candidate, in other words each time."""

    trials: int
    """Number of conversations with each of them: the k of pass^k."""
    passed_all: int
    """Number of customers with whom all of these followed the procedure and succeeded, of `of`."""
    of: int
    """Number of customers; 0 if it was not tested."""
    passed: int
    """Number of conversations that did, of `of` times `trials`."""


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
    """Number of branches that were taken."""
    worst_branches: Annotated[tuple[Branch, ...], Field(max_length=8)] | None = None
    """Branches that surely fail most, the worst first."""
    fabrication: Proportion | None = None
    """Values that neither the customer nor the context gave, of all values that the agent asserted; absent if not measured."""
    robustness: Annotated[tuple[RobustnessScore, ...], Field(max_length=8)] | None = None
    """Customers who say what the examples do not have, by kind; they count in no other score. Absent if they were not simulated."""
    tools: ToolScores | None = None
    """Tool calls and what was said of their results; absent for procedures without tools."""
    trials: TrialScores | None = None
    """Customers who had several conversations; absent if `evaluation.trials` is 1."""
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
