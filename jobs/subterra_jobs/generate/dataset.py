"""Writes the dataset's files. Rows are sorted by id, so the same plan gives the same bytes in whatever order it was written."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.tools import function_schemas
from subterra_jobs.dialogue.detours import detour_places
from subterra_jobs.dialogue.scripted import CHAT_ROLE
from subterra_jobs.dialogue.tool_calls import with_calls
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.agent_steps import AgentAudit
from subterra_jobs.generate.check.branch_audit import BranchAudit
from subterra_jobs.generate.check.turn_checks import count_drop_reasons
from subterra_jobs.generate.plan.coverage import Coverage, measure_coverage
from subterra_jobs.generate.plan.plan import train_whole
from subterra_jobs.generate.write.writer import messages
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.stage.runner import StageOutcome

Counts = dict[str, Any]
_OTHER = {"user": "assistant", "assistant": "user"}


def write_dataset(
    graph: Graph, conversations: Sequence[Conversation], audit: BranchAudit, output: Path, agent: AgentAudit | None = None
) -> StageOutcome:
    """Writes ``train.jsonl``, ``heldout.jsonl``, ``labels.jsonl``, ``coverage.json`` and ``audit.json``, and summarizes them.

    Raises InvalidInputError when no conversation is left for training or for holding out.
    """
    ordered = sorted(conversations, key=lambda conversation: conversation.spec.id)
    accepted = _trained_whole(graph, ordered)
    train = [conversation for conversation in accepted if conversation.spec.is_training]
    held_out = [conversation for conversation in accepted if conversation.spec.held_out]
    drop_reasons = [conversation.drop_reason for conversation in ordered if conversation.drop_reason]
    _require_both_splits(train, held_out, drop_reasons)
    coverage = measure_coverage(graph, [conversation.spec for conversation in train])
    copies = sum(conversation.spec.copy for conversation in held_out)
    rewritten = [reason for conversation in ordered for reason in conversation.rewritten]
    counts = {
        "train": len(train),
        "heldOut": len(held_out),
        **({"copies": copies} if copies else {}),
        "dropped": len(drop_reasons),
        "droppedFor": count_drop_reasons(drop_reasons),
    }
    _write_jsonl(output / "train.jsonl", (chat_row(graph, conversation) for conversation in train))
    _write_jsonl(output / "heldout.jsonl", (chat_row(graph, conversation) for conversation in held_out))
    _write_jsonl(output / "labels.jsonl", (label_row(conversation, graph) for conversation in accepted))
    (output / "coverage.json").write_text(json.dumps({"conversations": counts, **coverage.to_dict()}, indent=1) + "\n")
    audited = audit.to_dict(graph) | ({} if agent is None else {"agent": agent.to_dict()})
    (output / "audit.json").write_text(json.dumps(audited, indent=1, ensure_ascii=False) + "\n")
    parts = [audit.message, "" if agent is None else agent.message, _rewritten(rewritten)]
    return StageOutcome(_summary(counts, coverage, parts))


def _trained_whole(graph: Graph, ordered: list[Conversation]) -> list[Conversation]:
    """The conversations that were not dropped. What only held-out ones have left is trained on."""
    accepted = [conversation for conversation in ordered if conversation.drop_reason is None]
    if len(accepted) == len(ordered):
        return accepted
    split = train_whole(graph, [conversation.spec for conversation in accepted])
    return [replace(conversation, spec=spec) for conversation, spec in zip(accepted, split, strict=True)]


def _require_both_splits(train: list[Conversation], held_out: list[Conversation], drop_reasons: list[str]) -> None:
    if train and held_out:
        return
    reasons = sorted(set(drop_reasons))[:3]
    fix = f"conversations were dropped: {'; '.join(reasons)}" if reasons else "raise generation.conversations"
    raise InvalidInputError(f"no conversations are left to {'hold out' if train else 'train on'}; {fix}")


def _summary(counts: Counts, coverage: Coverage, audits: Iterable[str]) -> str:
    copies = f" ({counts['copies']:,} of trained scenarios)" if counts.get("copies") else ""
    parts = [f"{counts['train']:,} training conversations, {counts['heldOut']:,} held out{copies}, {coverage.message}"]
    parts += filter(None, audits)
    dropped = f", {counts['dropped']:,} dropped ({_listed(counts['droppedFor'])})" if counts["dropped"] else ""
    return "; ".join(parts) + dropped


def _rewritten(reasons: Sequence[str]) -> str:
    """The turns that were written again, by fault. They are no part of the dataset: made of stored turns it has the same bytes."""
    if not reasons:
        return ""
    return f"{len(reasons):,} {'turn' if len(reasons) == 1 else 'turns'} written again ({_listed(count_drop_reasons(reasons))})"


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


def chat_row(graph: Graph, conversation: Conversation) -> dict[str, Any]:
    """A row of chat messages; with tools also their list, so that any chat template can render it."""
    said = messages(graph, conversation)
    if not graph.spec.tools:
        return {"id": conversation.spec.id, "messages": said}
    called, _ = with_calls(graph, said, _turns(conversation), conversation.spec.values)
    return {"id": conversation.spec.id, "messages": called, "tools": function_schemas(graph.spec)}


def label_row(conversation: Conversation, graph: Graph | None = None) -> dict[str, Any]:
    """The conversation's row of ``labels.jsonl``; with a `graph` that has tools, `turns` has an entry for calls and results too."""
    spec, customer = conversation.spec, conversation.spec.customer
    return {
        "id": spec.id,
        "path": spec.path,
        "values": spec.values,
        "heldOut": spec.held_out,
        **({"copy": True} if spec.copy else {}),
        "opener": customer.opener,
        "persona": customer.persona,
        "style": customer.style,
        "twist": customer.twist and asdict(customer.twist),
        **({"challenge": asdict(customer.challenge)} if customer.challenge else {}),
        "turns": _turns(conversation) if graph is None else _message_nodes(graph, conversation),
    } | _exchanges(conversation)


def _exchanges(conversation: Conversation) -> dict[str, Any]:
    """What the conversation has beyond its path: a detour, and questions with the node before whose words each was asked."""
    detour, asked = conversation.detour, conversation.spec.asked[: len(conversation.questions)]
    questions = [{"question": each.name, "before": conversation.spec.path[each.position]} for each in asked]
    return ({"detour": detour.kind} if detour else {}) | ({"questions": questions} if questions else {})


def _message_nodes(graph: Graph, conversation: Conversation) -> list[list[str]]:
    """The nodes behind each message of the row."""
    turns = _turns(conversation)
    if not graph.spec.tools:
        return turns
    return with_calls(graph, messages(graph, conversation), turns, conversation.spec.values)[1]


def _turns(conversation: Conversation) -> list[list[str]]:
    """The nodes behind each message after the system prompt; empty lists for the customer's opener and for detours."""
    customer = conversation.spec.customer
    opener: list[list[str]] = [] if customer.opener is None else [[]]
    by_speaker = groupby(conversation.utterances, key=lambda utterance: utterance.role)
    turns = opener + [[utterance.node for utterance in group] for _, group in by_speaker]
    turns = [turns[1], *turns] if customer.greeted and opener else turns
    if not conversation.detours:
        return turns
    first_speaker = "user" if opener and not customer.greeted else CHAT_ROLE[conversation.utterances[0].role]
    roles = [first_speaker if index % 2 == 0 else _OTHER[first_speaker] for index in range(len(turns))]
    for place in detour_places(roles, conversation.detours, int(bool(opener))):
        turns = [*turns[:place], [], [], *turns[place:]]
    return turns


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
