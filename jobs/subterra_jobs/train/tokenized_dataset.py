"""Conversations as token ids and labels for the trainer.

The text is rendered by the chat template, so training sees exactly the bytes that serving will send. Labels are the agent's words
and calls and the token that ends its turn; everything else is -100, results of tools included.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from subterra_core.training_fit.base_models.chat_formats import ChatFormat, chat_format_ended_by
from subterra_jobs.errors import InvalidInputError

IGNORED = -100
_CALL = "call"
_FOLLOWS = {
    "": ("user", "assistant", _CALL),
    "user": ("assistant", _CALL),
    "assistant": ("user",),
    _CALL: ("tool",),
    "tool": ("tool", "assistant", _CALL),
}
"""What may follow each kind of message, and begin a conversation."""


class Message(TypedDict):
    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    """Calls of the assistant; a message of role `tool` follows for each."""


class Example(TypedDict):
    """One conversation, with a label per token id."""

    input_ids: list[int]
    labels: list[int]
    length: int


class LoadedExamples(NamedTuple):
    """The conversations of a file that are short enough to be trained on."""

    dataset: Dataset
    left_out: int
    """The number of those that are too long."""


def read_conversations(path: Path) -> Iterator[list[Message]]:
    """The conversations of a JSON-lines file. Raises InvalidInputError naming the first invalid line."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield _conversation(line, f"{path.name}:{number}")


def _conversation(line: str, where: str) -> list[Message]:
    try:
        messages: list[Message] = json.loads(line)["messages"]
        roles = [message["role"] for message in messages if isinstance(message["content"], str)]
    except (ValueError, KeyError, TypeError):
        raise InvalidInputError(
            f"{where} is not a conversation; each line must be an object with messages of role and content"
        ) from None
    turns = [_turn(message) for message in messages[1:]]
    if (
        len(roles) != len(messages)
        or roles[:1] != ["system"]
        or turns[-1:] != ["assistant"]
        or turns[0] not in _FOLLOWS[""]
        or not all(second in _FOLLOWS.get(first, ()) for first, second in pairwise(turns))
    ):
        raise InvalidInputError(
            f"{where}: a conversation must start with a system message, alternate roles, and end with the assistant; a call of a "
            "tool must be followed by its result"
        )
    return messages


def _turn(message: Message) -> str:
    """The role, or that the assistant calls a tool."""
    return _CALL if message["role"] == "assistant" and message.get("tool_calls") else message["role"]


def agent_spans(text: str, chat: ChatFormat) -> list[tuple[int, int]]:
    """The ranges of a rendered conversation where the agent speaks, including its closing token."""
    return [turn.span("said") for turn in chat.agent_turns.finditer(text)]


def encode(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Example:
    """Token ids and labels of one conversation.

    A token is the agent's if it begins in the agent's words: some tokenizers count the line break after a closing token to it.
    """
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = iter(agent_spans(text, chat_format_ended_by(tokenizer.eos_token)))
    start, end = next(spans, (len(text), len(text)))
    labels: list[int] = []
    for token, (first, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if first >= end:
            start, end = next(spans, (len(text), len(text)))
        labels.append(token if start <= first else IGNORED)
    return Example(input_ids=list(encoded["input_ids"]), labels=labels, length=len(labels))


def load_examples(tokenizer: PreTrainedTokenizerBase, path: Path, max_length: int, limit: int | None = None) -> LoadedExamples:
    """The conversations of a file that fit into ``max_length`` tokens.

    A longer one is left out rather than cut, because its end, where the procedure ends, would be missing. Raises
    InvalidInputError when more than one in twenty does not fit.
    """
    examples = [encode(tokenizer, messages) for messages in read_conversations(path)][:limit]
    fitting = [example for example in examples if example["length"] <= max_length]
    left_out = len(examples) - len(fitting)
    if not fitting or left_out > len(examples) / 20:
        longest = max((example["length"] for example in examples), default=0)
        raise InvalidInputError(
            f"{len(fitting)} of {len(examples)} conversations in {path.name} fit into maxLength {max_length}; "
            f"the longest has {longest} tokens"
        )
    return LoadedExamples(Dataset.from_list([dict(example) for example in fitting]), left_out)
