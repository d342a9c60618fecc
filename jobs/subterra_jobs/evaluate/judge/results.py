"""What became of one scenario with one model: the conversation, how it follows the procedure, and what each judge makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from subterra_api.v1alpha1.scores import Tally
from subterra_jobs.evaluate.judge.conformance import Replay
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.simulation import Dialogue

TASK, ACCURACY, CONSISTENCY, GRACEFUL, NATURAL = CRITERIA = (
    "taskSuccess", "informationAccuracy", "consistency", "gracefulHandling", "naturalness",
)  # fmt: skip
LOWEST, HIGHEST = 1.0, 5.0
FAILURE = 3
"""A conversation with this Task Success or less has failed."""
UNCHALLENGED_CAP = 3
RULES = "rules"
"""The fingerprint of this judge."""


@dataclass(frozen=True)
class Evidence:
    """What a judge that is a model says for a score: passages of the conversation, word for word, and a reason. Untrusted text."""

    quotes: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Judgement:
    """The five scores of one conversation; ``challenged`` when the customer gave Graceful Handling something to handle."""

    scores: Mapping[str, int]
    challenged: bool
    clean: tuple[bool, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    judge: str = RULES
    """Fingerprint of who judged by what; judgements with unlike ones are not comparable."""

    @property
    def failed(self) -> bool:
        return self.scores[TASK] <= FAILURE


@dataclass(frozen=True)
class Result:
    """``judgements`` has one for each judge, in the order of the judges; none where a judge gave no usable answer."""

    scenario: Scenario
    dialogue: Dialogue
    replay: Replay
    judgements: tuple[Judgement | None, ...]

    def score(self, criterion: str) -> float:
        """Mean of the judges, from 1 to 5. A judgement that is missing counts as the lowest."""
        scores = [LOWEST if each is None else float(each.scores[criterion]) for each in self.judgements]
        return sum(scores) / len(scores)

    @property
    def failed(self) -> bool:
        """Whether Task Success is 3 or less."""
        return self.score(TASK) <= FAILURE

    @property
    def challenged(self) -> bool:
        """Whether the customer gave Graceful Handling something to handle."""
        return any(each is not None and each.challenged for each in self.judgements)

    @property
    def conformant(self) -> bool:
        """Whether it followed the procedure to its end."""
        return self.dialogue.error is None and self.replay.conformant


@dataclass(frozen=True)
class Repeat:
    """A conversation that one judge judged twice."""

    judge: int
    first: Judgement
    second: Judgement


@dataclass(frozen=True)
class Accuracy:
    """How often the labeller was right on conversations whose steps are known: turns of each side, and whole conversations."""

    agent: Tally
    customer: Tally
    conversations: Tally


@dataclass(frozen=True)
class Judging:
    """Who scored and who labelled, and what is known of how well they do it."""

    judges: tuple[str, ...] = (RULES,)
    """Names, in the order of the judgements."""
    repeats: tuple[Repeat, ...] = ()
    labeller: str = RULES
    accuracy: Accuracy | None = None
