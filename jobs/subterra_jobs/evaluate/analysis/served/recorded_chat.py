"""A recorded request with its reply, as turns of customer and agent. Pure.

Clients send the whole conversation with each request, so one record is all that is needed to see it up to its reply.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_MESSAGES = 200
"""Longer conversations are not read: the time that they take grows with the square of it, and others wait."""
_TURNS = ("user", "assistant")
_EVENT = "data:"


@dataclass(frozen=True)
class Chat:
    """A conversation up to the agent's last reply: turns with `role` and `content`, and what the system message says."""

    turns: tuple[Mapping[str, str], ...]
    context: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for equal conversations."""
        return (self.context, *(turn["role"] + turn["content"] for turn in self.turns))

    @property
    def before(self) -> "Chat":
        """The conversation up to the agent's reply before the last one."""
        asked = len(self.turns) - 1
        while asked and self.turns[asked - 1]["role"] == "user":
            asked -= 1
        return Chat(self.turns[:asked], self.context)


def parse_record(record: Mapping[str, Any]) -> Chat | None:
    """The conversation in a record; `None` for one whose reply has no words, such as a call of a tool.

    Raises ValueError, KeyError or TypeError for a record of anything else, or of more than `MOST_MESSAGES`.
    """
    messages = json.loads(record["request"])["messages"]
    if len(messages) > MOST_MESSAGES:
        raise ValueError(f"{len(messages)} messages; at most {MOST_MESSAGES} are read")
    reply = reply_text(record["response"])
    return chat_of([*messages, {"role": "assistant", "content": reply}]) if reply.strip() else None


def chat_of(messages: Sequence[Mapping[str, Any]]) -> Chat:
    """The turns of a conversation: what one side says in several messages is one turn, with tool calls in between left out."""
    turns, context = list[dict[str, str]](), list[str]()
    for message in messages:
        role, text = str(message["role"]), " ".join(_text(message.get("content")).split())
        if role in ("system", "developer"):
            context.append(_text(message.get("content")))
        elif role in _TURNS and text:
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += f" {text}"
            else:
                turns.append({"role": role, "content": text})
    return Chat(tuple(turns), "\n".join(context))


def reply_text(response: str) -> str:
    """The words of a response, streamed or not; empty for a call of a tool."""
    if not response.lstrip().startswith(_EVENT):
        message = json.loads(response)["choices"][0]["message"]
        return "" if message.get("tool_calls") else _text(message.get("content"))
    deltas = [*_deltas(response)]
    return "" if any(delta.get("tool_calls") for delta in deltas) else "".join(_text(delta.get("content")) for delta in deltas)


def _deltas(stream: str) -> Iterator[Mapping[str, Any]]:
    """What each event of a streamed response adds to its first choice."""
    for line in stream.split("\n"):  # `splitlines` would also split at what JSON has inside of strings
        content = line.removeprefix(_EVENT).strip()
        if line.startswith(_EVENT) and content != "[DONE]":
            yield from (choice.get("delta", {}) for choice in json.loads(content)["choices"] if choice.get("index", 0) == 0)


def _text(content: Any) -> str:
    """A message's words, also where they come in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
