"""Parts of what models are asked in an evaluation. Pure."""

from collections.abc import Mapping, Sequence

_SPEAKER = {"user": "Customer", "assistant": "Agent"}


def tagged(tag: str, text: str) -> str:
    """A part of a prompt."""
    return f"<{tag}>\n{text}\n</{tag}>"


def conversation(chat: Sequence[Mapping[str, str]]) -> str:
    """What was said so far, a line for each turn."""
    lines = [f"{_SPEAKER[message['role']]}: {message['content']}" for message in chat]
    return tagged("conversation", "\n".join(lines) or "(nothing was said yet)")


def transcript(chat: Sequence[Mapping[str, str]]) -> str:
    """The conversation with a marker at the head of every line, so that nothing that was said can pass for something else."""
    speaker = {"assistant": "Agent", "user": "Customer"}
    lines = [
        f"[{number}] {speaker[turn['role']]}: {line}"
        for number, turn in enumerate(chat, start=1)
        for line in turn["content"].splitlines() or [""]
    ]
    return "<conversation>\n" + ("\n".join(lines) or "(nothing was said)") + "\n</conversation>"
