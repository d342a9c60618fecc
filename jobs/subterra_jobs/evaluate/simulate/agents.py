"""Who may answer the customer: models that we serve, and a model that reads the whole flowchart at every turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.text import flowchart, knowledge, variables
from subterra_jobs.dialogue.prompt_blocks import tagged
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.vllm_client import Candidate, Reply, UnplayableError
from subterra_jobs.llm.client import Message, Request
from subterra_jobs.llm.metered_client import Caller
from subterra_jobs.llm.response_cache import AnswerStore, Kept, Took, key_of

Chat = Sequence[dict[str, str]]
OPENED = "(The customer has opened the chat and waits for your greeting.)"
"""Providers want the customer to speak first."""
FORM = """\
- Reply with the words of your next turn only: no name of the speaker, no quotation marks, no comment, no markup.
- Never mention the flowchart, its nodes or these rules.
- State no fact about products or terms beyond the facts below, and promise nothing else.
- {{name}} stands for a value that the customer tells, or that <known> tells about the customer."""
_IN_CONTEXT = """\
You are the agent of a service and chat with a customer. <flowchart> has every way that a conversation may go.
- Find out from the conversation so far at which node it is, and say what the agent's nodes from there on ask for, up to the next \
node of the customer.
- At a node of the customer, the words decide which way is taken, by what stands after "when"; a fact decides where one is named.
- Do what the nodes ask for completely, and nothing that they do not ask for. At an end, close the conversation."""


class Speaker(Protocol):
    """Plays the agent in any number of conversations at once."""

    async def reply(self, chat: Chat, scenario: Scenario) -> Reply:
        """The agent's next turn. Of the scenario it may use the id and what an agent is told.

        Raises UnplayableError when this conversation cannot go on, a StageError when none can.
        """
        ...


@dataclass(frozen=True)
class Condition:
    """One way to answer customers. ``fingerprint`` names everything that determines its answers."""

    name: str
    speaker: Speaker
    fingerprint: str


class Served:
    """A model behind vLLM. With ``answers`` it says the same again after a kill, so that what customers then said still fits."""

    def __init__(self, candidate: Candidate, fingerprint: str, answers: AnswerStore | None = None) -> None:
        self._candidate, self._fingerprint, self._answers = candidate, fingerprint, answers

    async def reply(self, chat: Chat, scenario: Scenario) -> Reply:
        """See `Speaker`."""
        if self._answers is None:
            return await self._candidate.reply(chat, scenario.context)
        key = key_of(self._fingerprint, scenario.id, [*chat])
        kept = self._answers.get(key)
        if kept is not None and kept.took is not None:
            return Reply(kept.text, kept.took.seconds, kept.took.input, kept.took.output, kept.cut or "stop")
        reply = await self._candidate.reply(chat, scenario.context)
        took = Took(reply.seconds, reply.prompt_tokens, reply.completion_tokens, "0")
        cut = None if reply.finish_reason == "stop" else reply.finish_reason
        try:
            await self._answers.keep(key, Kept(reply.text, cut, took))
        except OSError as error:
            raise InfrastructureError(f"a reply could not be kept ({error}); see to the artifact store") from None
        return reply


class InContext:
    """A model with the whole flowchart in its system prompt: one call per turn, the first part the same in all conversations."""

    def __init__(self, spec: ProcedureSpec, caller: Caller) -> None:
        self.instructions = in_context(spec)
        self._caller = caller

    async def reply(self, chat: Chat, scenario: Scenario) -> Reply:
        """See `Speaker`."""
        request = Request(self.instructions, messages(chat, scenario.context))
        return reply_of([await spoken(self._caller, request, scenario)])


def in_context(spec: ProcedureSpec) -> str:
    """The system prompt with the whole flowchart."""
    return "\n\n".join([spec.system_prompt, _IN_CONTEXT, FORM, *known_to_all(spec), tagged("flowchart", flowchart(spec))])


async def spoken(caller: Caller, request: Request, scenario: Scenario) -> Kept:
    """Words for the customer. Raises UnplayableError when there are none: providers take no empty turn in a chat."""
    about = {"conversation": scenario.id, "plays": "agent"}
    kept, _ = await caller.ask(key_of(scenario.id, request.system, [*map(dict, request.messages)]), request, about)
    if not kept.text.strip():
        raise UnplayableError("the model said nothing", lost=False)
    return kept


def reply_of(answers: Sequence[Kept], said: str | None = None) -> Reply:
    """One turn out of the answers that it took; ``said`` when it is not the last of them."""
    took = [each.took for each in answers if each.took is not None]
    return Reply(
        text=answers[-1].text.strip() if said is None else said, seconds=sum(each.seconds for each in took),
        prompt_tokens=sum(each.input for each in took), completion_tokens=sum(each.output for each in took),
        finish_reason=next((each.cut for each in answers if each.cut), "stop"),
        usd=str(sum(Decimal(each.usd) for each in took)) if took else None, calls=len(answers),
    )  # fmt: skip


def messages(chat: Chat, known: str) -> tuple[Message, ...]:
    """The chat as providers want it: the customer first, who brings what is known about them."""
    turns = [dict(message) for message in chat]
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": OPENED})
    if known:
        turns[0]["content"] = f"{tagged('known', known)}\n\n{turns[0]['content']}"
    return tuple(turns)


def known_to_all(spec: ProcedureSpec) -> list[str]:
    """What an agent knows whatever the conversation."""
    return [tagged("facts", knowledge(spec)), tagged("variables", variables(spec))]
