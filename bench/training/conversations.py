"""A scripted dataset without Ray, for benchmarks."""

import asyncio
from pathlib import Path

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate import dataset
from subterra_jobs.generate.check.branch_audit import audit_branches
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation


def write_dataset(procedure: ProcedureSpec, generation: Generation, folder: Path) -> None:
    """Writes the files that the generate stage would write with these settings."""
    graph = Graph(procedure)
    specs = plan_conversations(procedure, generation)

    async def written() -> list[Conversation]:
        writer = Writer(graph, ScriptedTeacher(graph))
        return [await writer.finish(Conversation(spec)) for spec in specs]

    folder.mkdir(parents=True)
    finished = asyncio.run(written())
    dataset.write_dataset(graph, finished, audit_branches(finished), folder)
