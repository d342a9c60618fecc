"""The user simulator. It holds what the customer wants to say and never sees the procedure."""

from collections.abc import Sequence
from typing import Protocol


class User(Protocol):
    """Somebody who talks to the agent. Asynchronous, because a simulator may itself be a model."""

    async def reply(self, chat: Sequence[dict[str, str]]) -> str | None:
        """The customer's next turn after ``chat``; none when the customer has nothing more to say."""


class ScriptedUser:
    """Says its own lines in order, whatever the agent replies."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = iter(lines)

    async def reply(self, chat: Sequence[dict[str, str]]) -> str | None:
        """The next line; none when all are said."""
        return next(self._lines, None)
