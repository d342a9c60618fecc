"""A conversation with a served agent over its OpenAI-compatible API."""

from dataclasses import dataclass, field

import httpx

from subterra_jobs.dialogue.prompt_blocks import GREETING_REQUEST


@dataclass
class ChatSession:
    """One conversation; holds the history, because the served agent is stateless."""

    url: str
    model: str
    messages: list[dict[str, str]] = field(default_factory=list)
    timeout: float = 60.0

    def greet(self) -> str:
        """The agent's first turn, before the customer says anything."""
        return self._request_reply([GREETING_REQUEST])

    def say(self, text: str) -> str:
        """The agent's reply to the customer's ``text``."""
        self.messages.append({"role": "user", "content": text})
        return self._request_reply(self.messages)

    def _request_reply(self, messages: list[dict[str, str]]) -> str:
        body = {"model": self.model, "messages": messages, "temperature": 0}
        response = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=self.timeout)
        response.raise_for_status()
        reply = str(response.json()["choices"][0]["message"]["content"])
        self.messages.append({"role": "assistant", "content": reply})
        return reply
