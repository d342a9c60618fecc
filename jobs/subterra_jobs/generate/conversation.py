"""A written conversation."""

from dataclasses import dataclass

from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.plan import Slot


@dataclass(frozen=True)
class Conversation:
    """How far a slot is. ``dropped`` says why it is unfit."""

    slot: Slot
    said: tuple[Utterance, ...] = ()
    dropped: str | None = None
    guesses: tuple[str, ...] = ()
    """What the blind reader made of each decision of ``slot.audited``."""
    keys: tuple[str, ...] = ()
    """Of what was said."""
    reused: int = 0
    """Turns and guesses that had been paid before."""

    @property
    def written(self) -> bool:
        return len(self.said) == len(self.slot.path)

    @property
    def finished(self) -> bool:
        return self.dropped is not None or (self.written and len(self.guesses) == len(self.slot.audited))
