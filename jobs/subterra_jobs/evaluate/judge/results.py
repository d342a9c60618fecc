"""What became of one scenario with one model: the conversation, how it follows the procedure, and what each judge makes of it."""

from dataclasses import dataclass

from subterra_jobs.evaluate.judge.conformance import Replay
from subterra_jobs.evaluate.judge.rule_judge import FAILURE, LOWEST, TASK, Judgement
from subterra_jobs.evaluate.scenarios.build import Scenario
from subterra_jobs.evaluate.simulate.simulation import Dialogue


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
