"""A conversation with a served agent over its OpenAI-compatible API."""

from dataclasses import dataclass, field

import httpx

GREETING_REQUEST = {"role": "system", "content": ""}
"""Asks for the agent's first turn: the server's template applies the real system prompt, an empty one adds nothing."""


@dataclass
class Conversation:
    """Keeps the history, since the served agent is stateless."""

    url: str
    model: str
    messages: list[dict[str, str]] = field(default_factory=list)
    timeout: float = 60.0

    def greet(self) -> str:
        """The agent speaks first."""
        return self._ask([GREETING_REQUEST])

    def say(self, text: str) -> str:
        """The agent's answer to the customer."""
        self.messages.append({"role": "user", "content": text})
        return self._ask(self.messages)

    def _ask(self, messages: list[dict[str, str]]) -> str:
        body = {"model": self.model, "messages": messages, "temperature": 0}
        response = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=self.timeout)
        response.raise_for_status()
        reply = str(response.json()["choices"][0]["message"]["content"])
        self.messages.append({"role": "assistant", "content": reply})
        return reply
