"""The dataset's files. Sorted by slot, so that the same plan gives the same bytes whoever wrote it and in whatever order."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.branch_audit import Audit
from subterra_jobs.generate.check.turn_checks import reasons
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.plan.coverage import cover
from subterra_jobs.generate.write.writer import messages
from subterra_jobs.stage.runner import Outcome


def write_dataset(graph: Graph, conversations: Sequence[Conversation], found: Audit, output: Path) -> Outcome:
    """Writes ``train.jsonl``, ``heldout.jsonl``, ``labels.jsonl``, ``coverage.json`` and ``audit.json``; says what they hold."""
    ordered = sorted(conversations, key=lambda each: each.slot.id)
    kept = [each for each in ordered if each.dropped is None]
    train = [each for each in kept if not each.slot.held_out]
    held = [each for each in kept if each.slot.held_out]
    _must_have(train, held, ordered)
    _lines(output / "train.jsonl", ({"id": each.slot.id, "messages": messages(graph, each)} for each in train))
    _lines(output / "heldout.jsonl", ({"id": each.slot.id, "messages": messages(graph, each)} for each in held))
    _lines(output / "labels.jsonl", (_label(each) for each in kept))
    coverage = cover(graph, [each.slot for each in train])
    why = reasons([each.dropped for each in ordered if each.dropped])
    counts = {"train": len(train), "heldOut": len(held), "dropped": len(ordered) - len(kept), "droppedFor": why}
    (output / "coverage.json").write_text(json.dumps({"conversations": counts, **coverage.dump()}, indent=1) + "\n")
    (output / "audit.json").write_text(json.dumps(found.dump(graph), indent=1, ensure_ascii=False) + "\n")
    dropped = f", {counts['dropped']:,} dropped ({_listed(why)})" if why else ""
    read = f"; {found.message}" if found.message else ""
    return Outcome(f"{len(train):,} conversations to train on, {len(held):,} held out, {coverage.message}{read}{dropped}")


def _must_have(train: list[Conversation], held: list[Conversation], all_of_them: list[Conversation]) -> None:
    if train and held:
        return
    faults = sorted({each.dropped for each in all_of_them if each.dropped})[:3]
    cure = f"conversations were dropped: {'; '.join(faults)}" if faults else "raise generation.conversations"
    raise InvalidInputError(f"no conversations are left to {'hold out' if train else 'train on'}; {cure}")


def _listed(why: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in why.items())


def _label(conversation: Conversation) -> dict[str, Any]:
    slot = conversation.slot
    return {
        "id": slot.id, "path": slot.path, "values": slot.values, "heldOut": slot.held_out, "opener": slot.manner.opener,
        "persona": slot.manner.persona, "style": slot.manner.style, "twist": slot.manner.twist and asdict(slot.manner.twist),
        "turns": _turns(conversation),
    }  # fmt: skip


def _turns(conversation: Conversation) -> list[list[str]]:
    """The nodes that each message after the system prompt is made of; none for the customer's opener."""
    manner = conversation.slot.manner
    opener: list[list[str]] = [] if manner.opener is None else [[]]
    spoken = groupby(conversation.said, key=lambda each: each.role)
    turns = opener + [[each.node for each in group] for _, group in spoken]
    return [turns[1], *turns] if manner.greeted and opener else turns


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
