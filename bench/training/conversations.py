"""A scripted dataset without Ray, for benchmarks."""

import asyncio
import json
from pathlib import Path

from subterra_api.job_contract.defaults import generation_of
from subterra_api.v1alpha1.compilerun import GenerationSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer, messages
from subterra_jobs.generate.written_conversation import Conversation


def write_dataset(procedure: ProcedureSpec, conversations: int, folder: Path) -> None:
    """Writes the conversations that the generate stage would write, in the order of its plan."""
    graph = Graph(procedure)
    specs = plan_conversations(procedure, generation_of(GenerationSettings(conversations=conversations), "bundled"))

    async def written() -> list[Conversation]:
        writer = Writer(graph, ScriptedTeacher(graph))
        return [await writer.finish(Conversation(spec)) for spec in specs]

    folder.mkdir(parents=True)
    finished = asyncio.run(written())
    for name, held_out in (("train.jsonl", False), ("heldout.jsonl", True)):
        rows = [json.dumps({"messages": messages(graph, each)}) for each in finished if each.spec.held_out == held_out]
        (folder / name).write_text("\n".join(rows) + "\n")
