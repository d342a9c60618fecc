"""Agents that answer the customer: models served by vLLM, and a model that reads the whole flowchart at every turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.text import flowchart_text, knowledge_text, variables_text
from subterra_jobs.dialogue.prompt_blocks import xml_block
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import NOT_STORED
from subterra_jobs.evaluate.simulate.tool_use import ToolBench
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages, Reply, UnplayableError, VLLMClient
from subterra_jobs.llm.behavior.stops import explained
from subterra_jobs.llm.client import Message, Request
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.llm.response_cache import CachedResponse, CallUsage, ResponseCache, cache_key

AWAITING_GREETING = "(The customer has opened the chat and waits for your greeting.)"
"""Opening message where the agent speaks first: providers require that the user does."""
REPLY_RULES = """\
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


class Agent(Protocol):
    """Replies to customers in any number of concurrent conversations."""

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        """The agent's next turn. Of the scenario it may use only `id` and `context`.

        Raises UnplayableError when this conversation cannot go on, a StageError when none can.
        """
        ...


@dataclass(frozen=True)
class Arm:
    """An entry in the comparison: an agent with a name. `fingerprint` covers everything that determines its replies."""

    name: str
    agent: Agent
    fingerprint: str
    stored: bool = False
    """Whether only conversations in the store take part: no server is there to have others."""


class AbsentAgent:
    """The agent of an arm without a server."""

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        """Always raises UnplayableError."""
        raise UnplayableError(NOT_STORED, server_failed=False)


class ServedAgent:
    """A model served by vLLM. With a `cache` it repeats its replies after a restart, so that cached customer turns still fit."""

    def __init__(
        self, client: VLLMClient, fingerprint: str, cache: ResponseCache | None = None, bench: ToolBench | None = None
    ) -> None:
        self._client, self._fingerprint, self._cache, self._bench = client, fingerprint, cache, bench

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        """See `Agent`. An agent with tools gets the results of its calls from mocks with the scenario's values."""
        if self._bench is not None:
            return await self._bench.reply(self._client, chat, scenario)
        if self._cache is None:
            return await self._client.reply(chat, scenario.context)
        key = cache_key(self._fingerprint, scenario.id, [*chat])
        cached = self._cache.get(key)
        if cached is not None and cached.usage is not None:
            took, ended = cached.usage, cached.cut or "stop"
            return Reply(cached.text, took.seconds, took.input, took.output, ended, cache_read=took.cache_read)
        reply = await self._client.reply(chat, scenario.context)
        took = CallUsage(reply.seconds, reply.prompt_tokens, reply.completion_tokens, "0", reply.cache_read)
        cut = None if reply.finish_reason == "stop" else reply.finish_reason
        try:
            await self._cache.put(key, CachedResponse(reply.text, cut, took))
        except OSError as error:
            raise InfrastructureError(f"cannot store a reply: {error}; check the artifact store") from None
        return reply


class InContextAgent:
    """A model with the whole flowchart in its system prompt: one call per turn, the same prefix in all conversations."""

    def __init__(self, spec: ProcedureSpec, caller: MeteredClient) -> None:
        self.instructions = in_context_prompt(spec)
        self._caller = caller

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        """See `Agent`."""
        request = Request(self.instructions, provider_messages(chat, scenario.context))
        return combined_reply([await request_utterance(self._caller, request, scenario)])


def in_context_prompt(spec: ProcedureSpec) -> str:
    """System prompt with the whole flowchart."""
    return "\n\n".join(
        [spec.system_prompt, _IN_CONTEXT, REPLY_RULES, *shared_knowledge(spec), xml_block("flowchart", flowchart_text(spec))]
    )


async def request_utterance(caller: MeteredClient, request: Request, scenario: Scenario) -> CachedResponse:
    """Response with words for the customer. Raises UnplayableError when it is empty: providers accept no empty turn in a chat."""
    about = {"conversation": scenario.id, "plays": "agent"}
    response, _ = await caller.complete(cache_key(scenario.id, request.system, [*map(dict, request.messages)]), request, about)
    if not response.text.strip():
        said = f"the model's response ended with {explained(response.cut)}" if response.cut else "the model said nothing"
        raise UnplayableError(said, server_failed=False)
    return response


def combined_reply(responses: Sequence[CachedResponse], text: str | None = None) -> Reply:
    """One turn combined from all responses it took; `text` defaults to that of the last one."""
    calls = [response.usage for response in responses if response.usage is not None]
    return Reply(
        text=responses[-1].text.strip() if text is None else text,
        seconds=sum(call.seconds for call in calls),
        prompt_tokens=sum(call.input for call in calls),
        completion_tokens=sum(call.output for call in calls),
        finish_reason=next((response.cut for response in responses if response.cut), "stop"),
        usd=str(sum(Decimal(call.usd) for call in calls)) if calls else None,
        calls=len(responses),
        cache_read=sum(call.cache_read for call in calls),
    )


def provider_messages(chat: ChatMessages, known: str) -> tuple[Message, ...]:
    """The chat as providers require it: the customer speaks first; `known` precedes the first message."""
    turns = [dict(message) for message in chat]
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": AWAITING_GREETING})
    if known:
        turns[0]["content"] = f"{xml_block('known', known)}\n\n{turns[0]['content']}"
    return tuple(turns)


def shared_knowledge(spec: ProcedureSpec) -> list[str]:
    """Prompt blocks with what an agent knows in every conversation."""
    return [xml_block("facts", knowledge_text(spec)), xml_block("variables", variables_text(spec))]
