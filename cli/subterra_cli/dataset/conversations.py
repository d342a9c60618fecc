"""Conversations of a dataset: filtered, exported for other trainers, and printed with their paths."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from subterra_cli.dataset.locate import EXTRA, Dataset
from subterra_cli.errors import CommandError
from subterra_core.drawing.graph_summary import clean

SPLITS = {"train": ("train",), "heldout": ("heldout",), "all": ("train", "heldout")}
_SPEAKERS = {"system": "system", "user": "customer", "assistant": "agent", "tool": "tool"}


@dataclass(frozen=True)
class DatasetConversation:
    """A conversation with its entry in labels.jsonl."""

    split: str
    messages: list[dict[str, Any]]
    label: dict[str, Any]
    tools: tuple[dict[str, Any], ...] = ()
    """The list of tools in its row, if the procedure has any."""

    @property
    def path(self) -> list[str]:
        """Node ids."""
        return list(self.label["path"])

    def data(self) -> dict[str, Any]:
        """The conversation as JSON data."""
        return {**self.label, "split": self.split, **self.row()}

    def row(self) -> dict[str, Any]:
        """The row that other trainers read."""
        return {"messages": self.messages, **({"tools": [*self.tools]} if self.tools else {})}


@dataclass(frozen=True)
class ConversationFilter:
    """Selects the conversations that end at ``terminal`` and take ``edge``, where these are given."""

    split: str = "all"
    terminal: str | None = None
    edge: tuple[str, str] | None = None

    def matches(self, conversation: DatasetConversation) -> bool:
        """Whether the filter selects ``conversation``."""
        path = conversation.path
        return self.terminal in (None, path[-1]) and (self.edge is None or self.edge in pairwise(path))


def read_conversations(dataset: Dataset, wanted: ConversationFilter) -> list[DatasetConversation]:
    """The conversations that ``wanted`` selects, in the order of the dataset."""
    labels = {label["id"]: label for label in dataset.rows("labels.jsonl")}
    conversations = [
        DatasetConversation(split, row["messages"], labels[row["id"]], tuple(row.get("tools", ())))
        for split in SPLITS[wanted.split]
        for row in dataset.rows(f"{split}.jsonl")
    ]
    return [conversation for conversation in conversations if wanted.matches(conversation)]


def parse_edge(text: str) -> tuple[str, str]:
    """The edge in ``FROM:TO``. Raises CommandError."""
    source, _, target = text.partition(":")
    if not source or not target:
        raise CommandError(f"--edge {text}: write an edge as FROM:TO, such as choice:confirm")
    return source, target


def export_rows(conversations: Sequence[DatasetConversation], form: str, file: str) -> None:
    """Writes a row ``{"messages": [{"role", "content"}, …]}`` per conversation, with ``tools`` where there are any.

    ``file`` - is standard output.
    """
    rows = [conversation.row() for conversation in conversations]
    if form == "parquet" and any(conversation.tools for conversation in conversations):
        raise CommandError(
            "Conversations with tool calls have no fixed columns, so they are not written as Parquet; use --format jsonl"
        )
    if form == "parquet" and file == "-":
        raise CommandError("Parquet cannot be written to standard output; pass a file with -o")
    try:
        if form == "parquet":
            _write_parquet(rows, file)
        else:
            with nullcontext(sys.stdout) if file == "-" else Path(file).open("w", encoding="utf-8") as out:
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        raise CommandError(f"{file}: cannot be written ({error.strerror or error})") from None


def _write_parquet(rows: list[dict[str, Any]], file: str) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CommandError(f"Parquet needs pyarrow: {EXTRA}, or use --format jsonl") from None
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    schema = pyarrow.schema([("messages", pyarrow.list_(message))])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)


def conversation_lines(conversations: Iterable[DatasetConversation]) -> Iterator[str]:
    """Per conversation: a header, the values, and one line for each turn with its nodes."""
    for conversation in conversations:
        yield from _header_lines(conversation)
        turns = conversation.label.get("turns") or [[] for _ in conversation.messages[1:]]
        width = max(map(len, map(", ".join, turns)), default=0)
        for message, nodes in zip(conversation.messages, [[], *turns], strict=True):
            yield f"  {', '.join(nodes):{width}}  {_SPEAKERS[message['role']]:8}  {clean(_words(message))}"
        yield ""


def _words(message: dict[str, Any]) -> str:
    """The words of a message on one line, with its tool calls."""
    calls = [f"[{call['function']['name']} {call['function']['arguments']}]" for call in message.get("tool_calls", ())]
    return " ".join([*str(message["content"] or "").split(), *calls])


def _header_lines(conversation: DatasetConversation) -> Iterator[str]:
    label, twist = conversation.label, conversation.label.get("twist")
    traits = [label.get("persona"), label.get("style"), twist and " of ".join(filter(None, (twist["kind"], twist["about"])))]
    yield " · ".join([label["id"], conversation.split, *filter(None, traits)])
    yield "  path: " + " → ".join(conversation.path)
    if label.get("values"):
        yield "  values: " + ", ".join(f"{name} = {clean(value)}" for name, value in label["values"].items())


def no_match_message(dataset: Dataset, wanted: ConversationFilter) -> str:
    """The message when no conversation matches: the endings that exist."""
    endings = sorted({one.path[-1] for one in read_conversations(dataset, ConversationFilter(wanted.split))})
    if not endings:
        return f"no matching conversation; split {wanted.split} is empty"
    return f"no matching conversation; conversations in split {wanted.split} end at {', '.join(endings)}"
