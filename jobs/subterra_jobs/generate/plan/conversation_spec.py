"""What a dataset's plan says about one conversation. Pure."""

from dataclasses import dataclass

from subterra_core.procedure.graph import Path
from subterra_jobs.dialogue.questions import AskedQuestion
from subterra_jobs.generate.plan.customer_style import CustomerStyle
from subterra_jobs.generate.plan.pilot import BranchDecision


@dataclass(frozen=True)
class ConversationSpec:
    """A planned conversation."""

    id: str
    seed: int
    path: Path
    values: dict[str, str]
    """The scenario's values, in the customer's words."""
    scenario: str
    """Hex digest of what happens; equal scenarios are on the same side of the split, unless they are copies."""
    held_out: bool
    customer: CustomerStyle
    audited: tuple[BranchDecision, ...] = ()
    """Decisions that the blind reader has to identify; only pilot conversations have any."""
    copy: bool = False
    """Held out although others train on the same scenario: it measures new words, not a new path."""
    asked: tuple[AskedQuestion, ...] = ()
    """Questions in between, in the order of the turns."""

    def values_at(self, position: int) -> dict[str, str]:
        """The values as the customer has them at a turn: one who changes their mind later has another one until then."""
        challenge = self.customer.challenge
        if challenge is None or challenge.has_aside or position >= challenge.position:
            return self.values
        return self.values | {challenge.about: challenge.other}

    @property
    def is_training(self) -> bool:
        """True for a training conversation, False for a held-out one."""
        return not self.held_out
