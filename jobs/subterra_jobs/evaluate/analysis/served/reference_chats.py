"""The version's own evaluation, read as served conversations are: the candidate's transcripts in its report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subterra_api.job_contract.messages import ServedCounts
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.monitoring.served_counts import total_counts
from subterra_jobs.evaluate.analysis.served.chat_check import ChatCheck
from subterra_jobs.evaluate.analysis.served.recorded_chat import Chat, chat_of
from subterra_jobs.evaluate.analysis.served.tally import counts_of

TRANSCRIPTS = "transcripts.jsonl"
LIMIT = 200
"""Conversations that are read, so that a large evaluation does not keep the monitor from its work."""
_OTHER_KINDS = frozenset({"kind", "trial"})
"""Fields of rows that are not among the scored conversations."""


def reference_counts(check: ChatCheck, spec: ProcedureSpec, report: Path) -> ServedCounts | None:
    """Counts of the evaluation's conversations; `None` without transcripts."""
    file = report / TRANSCRIPTS
    if not file.is_file():
        return None
    with file.open() as lines:
        chats = [*_chats(spec, (json.loads(line) for line in lines))][:LIMIT]
    return total_counts(counts_of(check.check(each)) for chat in chats for each in records_of(chat))


def records_of(chat: Chat) -> Iterator[Chat]:
    """The conversation as each of its requests has it."""
    for index, turn in enumerate(chat.turns):
        if turn["role"] == "assistant":
            yield Chat(chat.turns[: index + 1], chat.context)


def _chats(spec: ProcedureSpec, rows: Iterator[dict[str, Any]]) -> Iterator[Chat]:
    """The candidate's conversations, which come first."""
    context = [variable.name for variable in spec.variables if variable.visibility == "context"]
    candidate = ""
    for row in rows:
        candidate = candidate or row["arm"]
        if row["arm"] == candidate and not row.get("error") and not _OTHER_KINDS.intersection(row):
            known = "\n".join(f"{name}: {row['values'][name]}" for name in context if name in row["values"])
            turns = [{"role": turn["role"], "content": turn["text"]} for turn in row["turns"]]
            yield chat_of([{"role": "system", "content": known}, *turns])
