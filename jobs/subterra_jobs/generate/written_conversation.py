"""A conversation that is being written."""

from dataclasses import dataclass

from subterra_jobs.dialogue.detours import Detour
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec


@dataclass(frozen=True)
class Conversation:
    """A planned conversation and what has been written of it so far."""

    spec: ConversationSpec
    utterances: tuple[Utterance, ...] = ()
    """One per node of the path."""
    drop_reason: str | None = None
    """Why the conversation is unfit for training, if it is."""
    guesses: tuple[str, ...] = ()
    """The branch that the blind reader chose at each decision of ``spec.audited``."""
    turn_keys: tuple[str, ...] = ()
    """Cache keys of ``utterances``."""
    detour: Detour | None = None
    """An exchange that the flowchart does not have."""
    questions: tuple[Detour, ...] = ()
    """One for each of ``spec.asked`` that has its words."""
    reused: int = 0
    """Number of turns and guesses taken from the response cache."""
    rewritten: tuple[str, ...] = ()
    """Why turns were written again, in the form of `drop_reason`, once for each refused attempt."""

    @property
    def written(self) -> bool:
        return len(self.utterances) == len(self.spec.path)

    @property
    def needs_aside(self) -> bool:
        """Whether an exchange comes before the next turn, since its challenge makes the agent ask back; never in the pilot."""
        challenge = self.spec.customer.challenge
        due = challenge is not None and challenge.has_aside and challenge.position == len(self.utterances)
        return due and not self.spec.audited and self.detour is None

    @property
    def needs_question(self) -> bool:
        """Whether the words of a question in between are missing; they come last, so that no turn depends on them."""
        return self.written and len(self.questions) < len(self.spec.asked)

    @property
    def detours(self) -> tuple[Detour, ...]:
        """All exchanges that the flowchart does not have."""
        return (*([] if self.detour is None else [self.detour]), *self.questions)

    @property
    def finished(self) -> bool:
        complete = self.written and not self.needs_question and len(self.guesses) == len(self.spec.audited)
        return self.drop_reason is not None or complete
