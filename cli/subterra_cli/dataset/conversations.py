"""Conversations of a dataset: chosen, written for other trainers, and shown with their path beside them."""

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
from subterra_core.drawing.summary import clean

SPLITS = {"train": ("train",), "heldout": ("heldout",), "all": ("train", "heldout")}
_SPEAKERS = {"system": "system", "user": "customer", "assistant": "agent"}


@dataclass(frozen=True)
class Conversation:
    """A chat and what the side file knows of it."""

    split: str
    messages: list[dict[str, str]]
    label: dict[str, Any]

    @property
    def path(self) -> list[str]:
        """Node ids."""
        return list(self.label["path"])

    def data(self) -> dict[str, Any]:
        """For scripts."""
        return {**self.label, "split": self.split, "messages": self.messages}


@dataclass(frozen=True)
class Choice:
    """Which conversations are meant: all that end at ``terminal`` and take ``edge``, where these are given."""

    split: str = "all"
    terminal: str | None = None
    edge: tuple[str, str] | None = None

    def takes(self, conversation: Conversation) -> bool:
        """Whether it is one of them."""
        path = conversation.path
        return self.terminal in (None, path[-1]) and (self.edge is None or self.edge in pairwise(path))


def read(dataset: Dataset, choice: Choice) -> list[Conversation]:
    """The conversations of a choice, in the order of the dataset."""
    labels = {label["id"]: label for label in dataset.rows("labels.jsonl")}
    found = [
        Conversation(split, row["messages"], labels[row["id"]])
        for split in SPLITS[choice.split]
        for row in dataset.rows(f"{split}.jsonl")
    ]
    return [each for each in found if choice.takes(each)]


def parse_edge(text: str) -> tuple[str, str]:
    """An edge as it is given: ``FROM:TO``."""
    source, _, target = text.partition(":")
    if not source or not target:
        raise CommandError(f"--edge {text}: name an edge as FROM:TO, such as choice:confirm")
    return source, target


def write(conversations: Sequence[Conversation], form: str, file: str) -> None:
    """The chat format of other trainers: a row ``{"messages": [{"role", "content"}, …]}`` for each; ``-`` is standard output."""
    rows = [{"messages": each.messages} for each in conversations]
    if form == "parquet" and file == "-":
        raise CommandError("parquet cannot go to standard output; name a file with -o")
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
        raise CommandError(f"parquet needs pyarrow: {EXTRA}, or use --format jsonl") from None
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    schema = pyarrow.schema([("messages", pyarrow.list_(message))])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)


def lines(conversations: Iterable[Conversation]) -> Iterator[str]:
    """For people: a head, the values, and a line for each turn, with the nodes that it is made of."""
    for each in conversations:
        yield from _head(each)
        turns = each.label.get("turns") or [[] for _ in each.messages[1:]]
        width = max(map(len, map(", ".join, turns)), default=0)
        for message, nodes in zip(each.messages, [[], *turns], strict=True):
            yield f"  {', '.join(nodes):{width}}  {_SPEAKERS[message['role']]:8}  {clean(' '.join(message['content'].split()))}"
        yield ""


def _head(conversation: Conversation) -> Iterator[str]:
    label, twist = conversation.label, conversation.label.get("twist")
    told = [label.get("persona"), label.get("style"), twist and " of ".join(filter(None, (twist["kind"], twist["about"])))]
    yield " · ".join([label["id"], conversation.split, *filter(None, told)])
    yield "  path: " + " → ".join(conversation.path)
    if label.get("values"):
        yield "  values: " + ", ".join(f"{name} = {clean(value)}" for name, value in label["values"].items())


def nothing(dataset: Dataset, choice: Choice) -> str:
    """Why there is nothing to show, and what there is."""
    endings = sorted({each.path[-1] for each in read(dataset, Choice(choice.split))})
    return f"no conversation is like that; those of split {choice.split} end at {', '.join(endings) or 'no node: there are none'}"
