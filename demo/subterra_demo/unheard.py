"""Checks that the demo's customers speak in words that the agent was never trained on."""

import json
import re
from collections.abc import Iterable, Sequence

from subterra_demo.customers import DemoCustomer

RUN = 5
"""Consecutive words that a sentence of the demo must not share with any customer in training."""
_WORD = re.compile(r"\w+(?:['’]\w+)?")


def heard_in_training(customers: Sequence[DemoCustomer], rows: Iterable[str]) -> list[str]:
    """The sentences of the demo that are in training, whole or by a run of `RUN` words; `rows` are the lines of train.jsonl."""
    lines = [line for row in rows for line in _customer_lines(json.loads(row)["messages"])]
    whole = {tuple(_words(line)) for line in lines}
    runs = {run for line in lines for run in _runs(_words(line))}
    spoken = [line for customer in customers for line in (*filter(None, [customer.opener]), *customer.says)]
    return [line for line in spoken if tuple(_words(line)) in whole or runs.intersection(_runs(_words(line)))]


def _customer_lines(messages: Sequence[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


def _words(line: str) -> list[str]:
    return _WORD.findall(line.casefold())


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}
