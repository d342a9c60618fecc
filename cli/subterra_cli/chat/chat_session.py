"""A conversation with a served agent over its OpenAI-compatible API."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from subterra_cli.chat.agent_key import ApiKey, refusal
from subterra_cli.cluster import ClusterAccessError
from subterra_cli.errors import CommandError
from subterra_jobs.dialogue.prompt_blocks import GREETING_REQUEST

Message = dict[str, Any]
MAX_CALLS = 16
"""Tool calls in one turn; an agent that calls more is stuck."""
MAX_CHARACTERS = 10_000
"""Longest line that is sent. People type less; more is a file piped in by mistake."""
_CONTEXT_LIMIT = re.compile(r"context length is (\d+)")
_TOO_LONG = re.compile(r"context length|too long", re.IGNORECASE)


class ServerFailedError(ClusterAccessError):
    """The agent's server gave no reply; the message says why."""


class KeyRefusedError(ClusterAccessError):
    """The agent demands an API key, or another one; the message says what to do."""


class TooLongError(CommandError):
    """The agent cannot read that much. The conversation is as before and can go on."""


@dataclass
class ChatSession:
    """One conversation; holds the history, because the served agent is stateless."""

    url: str
    model: str
    messages: list[Message] = field(default_factory=list)
    timeout: float = 60.0
    api_key: ApiKey | None = None
    """Sent with every request."""
    context: str = ""
    """Facts about this customer, a line `name: value` each; the system message of every request."""
    tools: Sequence[dict[str, Any]] = ()
    """The procedure's tools, as requests have them."""
    run_tool: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda name, arguments: {"error": "unknown tool"}
    """Returns the result of a call."""
    on_call: Callable[[str], None] = lambda text: None
    """Called with each tool call and its result, as a line."""

    def greet(self) -> str:
        """The agent's first turn, before the customer says anything. Raises what `say` raises."""
        return self._request_reply([])

    def say(self, text: str) -> str:
        """The agent's reply to ``text``. Raises ServerFailedError, KeyRefusedError, TooLongError; all leave ``text`` out."""
        if len(text) > MAX_CHARACTERS:
            raise TooLongError(f"This has {len(text):,} characters; the limit of a line is {MAX_CHARACTERS:,}.")
        return self._request_reply([{"role": "user", "content": text}])

    def _request_reply(self, said: Sequence[Message]) -> str:
        chat = [*self.messages, *said]
        system = [GREETING_REQUEST | {"content": self.context}] if self.context or not chat else []
        spoken: list[str] = []
        for _ in range(MAX_CALLS):
            message = self._message_of(self._post([*system, *chat]))
            reply, calls = str(message.get("content") or ""), message.get("tool_calls") or []
            spoken.append(reply.strip() if calls else reply)
            if not calls:
                self.messages = [*chat, {"role": "assistant", "content": reply}]
                return " ".join(filter(None, spoken))
            chat += [{"role": "assistant", "content": reply.strip(), "tool_calls": calls}, *map(self._result_of, calls)]
        raise ServerFailedError(f"CompiledAgent {self.model} calls tools without end: {MAX_CALLS} calls in one turn")

    def _result_of(self, call: dict[str, Any]) -> Message:
        """The `tool` message for a call."""
        name, given = str(call["function"]["name"]), str(call["function"]["arguments"] or "{}")
        try:
            arguments = json.loads(given)
        except ValueError:
            arguments = None
        known = isinstance(arguments, dict)
        result = self.run_tool(name, arguments) if known else {"error": "the arguments are not a JSON object"}
        content = json.dumps(result, ensure_ascii=False)
        self.on_call(f"{name} {given} → {content}")
        return {"role": "tool", "tool_call_id": call.get("id"), "content": content}

    def _post(self, messages: Sequence[Message]) -> httpx.Response:
        body = {"model": self.model, "messages": messages, "temperature": 0, **({"tools": [*self.tools]} if self.tools else {})}
        headers = {"Authorization": f"Bearer {self.api_key.value}"} if self.api_key else {}
        try:
            return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=self.timeout)
        except httpx.TimeoutException:
            raise ServerFailedError(
                f"CompiledAgent {self.model} did not reply within {self.timeout:g} s; its server is overloaded or hangs"
            ) from None
        except httpx.HTTPError as error:
            raise ServerFailedError(
                f"the connection to CompiledAgent {self.model} was lost ({error or type(error).__name__}): "
                "its pod was replaced, or kubectl port-forward ended"
            ) from None

    def _message_of(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise KeyRefusedError(refusal(self.model, self.api_key))
        if response.is_error:
            said = _error_message(response)
            if response.status_code in (400, 413) and _TOO_LONG.search(said):
                raise TooLongError(_too_long(self.model, said))
            raise ServerFailedError(f"the server of CompiledAgent {self.model} answered {response.status_code}: {said}")
        try:
            message = response.json()["choices"][0]["message"]
            if "content" not in message and not message.get("tool_calls"):
                raise KeyError("content")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ServerFailedError(
                f"what answers for CompiledAgent {self.model} is not a chat completions API; it sent {response.text[:100]!r}"
            ) from None
        return dict(message)


def _error_message(response: httpx.Response) -> str:
    """The message of an OpenAI-compatible error, else the start of the body."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text.strip()[:200] or response.reason_phrase


def _too_long(model: str, said: str) -> str:
    if found := _CONTEXT_LIMIT.search(said):
        return f"CompiledAgent {model} reads at most {int(found[1]):,} tokens: the facts and all turns of both speakers together."
    return f"This is too long for CompiledAgent {model}, which says: {said}"
