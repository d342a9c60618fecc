"""Result of one scenario in one arm: the conversation, its conformance, and the judgements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from subterra_api.v1alpha1.scores import Proportion
from subterra_jobs.evaluate.judge.conformance import Replay
from subterra_jobs.evaluate.judge.fabrication import Assertion
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import LEFT_EARLY, NOT_STORED, Conversation

TASK, ACCURACY, CONSISTENCY = "taskSuccess", "informationAccuracy", "consistency"
GRACEFUL, NATURAL = "gracefulHandling", "naturalness"
CRITERIA = (TASK, ACCURACY, CONSISTENCY, GRACEFUL, NATURAL)
LOWEST, HIGHEST = 1.0, 5.0
FAILURE = 3
"""Highest Task Success of a failed conversation."""
UNCHALLENGED_CAP = 3
RULES = "rules"
"""Fingerprint of the rule judge."""


@dataclass(frozen=True)
class Evidence:
    """An LLM judge's grounds for a score: verbatim quotes from the conversation and a reason. Untrusted text."""

    quotes: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Judgement:
    """Five scores of one conversation; `challenged` when there was something to handle gracefully."""

    scores: Mapping[str, int]
    challenged: bool
    clean: tuple[bool, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    judge: str = RULES
    """Fingerprint of the judge; judgements with different ones are not comparable."""

    @property
    def failed(self) -> bool:
        return self.scores[TASK] <= FAILURE


@dataclass(frozen=True)
class Result:
    """A judged conversation. `judgements` has one per judge, in order, `None` where a judge gave no usable response."""

    scenario: Scenario
    conversation: Conversation
    replay: Replay
    judgements: tuple[Judgement | None, ...]
    assertions: tuple[Assertion, ...] = ()
    """What the agent asserted; of the candidate only."""

    def score(self, criterion: str) -> float:
        """Mean of the judges who scored, from 1 to 5; the lowest if none did."""
        scores = [float(each.scores[criterion]) for each in self.judgements if each is not None]
        return sum(scores) / len(scores) if scores else LOWEST

    @property
    def failed(self) -> bool:
        """Whether Task Success is 3 or less."""
        return self.score(TASK) <= FAILURE

    @property
    def challenged(self) -> bool:
        """Whether there was something to handle gracefully."""
        return any(each is not None and each.challenged for each in self.judgements)

    @property
    def conformant(self) -> bool:
        """Whether the agent followed the procedure to its end."""
        return self.conversation.error is None and self.replay.conformant

    @property
    def absent(self) -> bool:
        """Whether the arm has no server and has not had this conversation before."""
        return self.conversation.error == NOT_STORED

    @property
    def left_out(self) -> bool:
        """Whether the conversation says nothing about the agent: the customer left early, and until then every step was right. Or
        there is none.

        An agent that had gone wrong before, for example by ending the conversation itself, is not excused, and neither is one
        whose steps are unknown.
        """
        if self.absent:
            return True
        known = bool(self.replay.labelled or not self.conversation.replies)
        return known and self.conversation.fault == LEFT_EARLY and self.conversation.error is None and self.replay.broken_off


def counted(results: Iterable["Result"]) -> list["Result"]:
    """The results without those that are left out."""
    return [result for result in results if not result.left_out]


@dataclass(frozen=True)
class Repeat:
    """Two judgements of one conversation by one judge."""

    judge: int
    first: Judgement
    second: Judgement


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the labeller on conversations with known steps: by turns of each side, and by whole conversations."""

    agent: Proportion
    customer: Proportion
    conversations: Proportion


@dataclass(frozen=True)
class JudgingQuality:
    """Judges and labeller of an evaluation, and what is known of their reliability."""

    judges: tuple[str, ...] = (RULES,)
    """Names, in the order of the judgements."""
    repeats: tuple[Repeat, ...] = ()
    labeller: str = RULES
    accuracy: Accuracy | None = None


ArmResults = Mapping[str, Sequence[Result]]
"""Results of each arm, by its name, in the order of the scenarios."""
