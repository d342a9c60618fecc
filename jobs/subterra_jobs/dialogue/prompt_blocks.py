"""Blocks of prompts. Pure."""

from collections.abc import Mapping, Sequence

GREETING_REQUEST = {"role": "system", "content": ""}
"""Requests the first turn of a served agent: vLLM refuses a request without messages, and the chat template adds the real system
prompt, so this one is empty.
"""
_SPEAKER = {"user": "Customer", "assistant": "Agent"}


def xml_block(tag: str, text: str) -> str:
    """Text between the tags of `tag`."""
    return f"<{tag}>\n{text}\n</{tag}>"


def conversation_block(chat: Sequence[Mapping[str, str]]) -> str:
    """The conversation so far, a line per turn."""
    lines = [f"{_SPEAKER[message['role']]}: {message['content']}" for message in chat]
    return xml_block("conversation", "\n".join(lines) or "(nothing was said yet)")


def numbered_transcript(chat: Sequence[Mapping[str, str]]) -> str:
    """The conversation with a marker at the head of every line, so that no turn can pass for another one or for an instruction."""
    lines = [
        f"[{number}] {_SPEAKER[turn['role']]}: {line}"
        for number, turn in enumerate(chat, start=1)
        for line in turn["content"].splitlines() or [""]
    ]
    return xml_block("conversation", "\n".join(lines) or "(nothing was said)")
