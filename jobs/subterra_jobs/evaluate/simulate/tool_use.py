"""A turn of a served agent that may call tools: requests until it speaks, with the calls answered by the scenario's mock tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.tools import function_schemas, without_marks
from subterra_jobs.dialogue.tool_calls import ChatMessage, MockTools, call_message, marked, result_message, with_messages
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages, Completion, Reply, UnplayableError, VLLMClient

MAX_REQUESTS = 8
"""Requests of one turn; an agent that only calls tools is stopped then."""


@dataclass(frozen=True)
class ToolBench:
    """The tools of a procedure, for agents that were trained with them."""

    spec: ProcedureSpec

    async def reply(self, client: VLLMClient, chat: ChatMessages, scenario: Scenario) -> Reply:
        """The agent's next turn, with its calls and their results in `messages`. Raises UnplayableError."""
        mock, schemas = MockTools(self.spec, scenario.values), function_schemas(self.spec)
        history, said = with_messages(chat), list[ChatMessage]()
        completions: list[Completion] = []
        while len(completions) < MAX_REQUESTS:
            completion = await client.complete([*history, *said], scenario.context, tools=schemas)
            completions.append(completion)
            calls = _calls_of(completion.message)
            if not calls:
                said.append({"role": "assistant", "content": completion.reply.text})
                break
            first = 1 + sum(message["role"] == "tool" for message in (*history, *said))
            said.append(call_message(completion.reply.text.strip(), calls, first))
            said += [result_message(mock.run(*call), number) for number, call in enumerate(calls, start=first)]
        return _combined(completions, said)


def _calls_of(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and arguments of the calls in a response. Raises UnplayableError."""
    try:
        return [
            (str(call["function"]["name"]), str(call["function"]["arguments"] or "{}")) for call in message.get("tool_calls") or ()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnplayableError(f"the server's response has an unreadable tool call: {error!r}", server_failed=False) from None


def _combined(completions: Sequence[Completion], said: Sequence[ChatMessage]) -> Reply:
    replies, called = [completion.reply for completion in completions], any(message["role"] == "tool" for message in said)
    return Reply(
        text=marked(said) if called else without_marks(replies[-1].text),
        seconds=sum(reply.seconds for reply in replies),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        finish_reason=replies[-1].finish_reason,
        calls=len(replies),
        messages=tuple(said) if called else (),
    )
