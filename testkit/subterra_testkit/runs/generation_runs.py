"""The generate stage in this process."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from subterra_api.job_contract.artifacts import lease_path
from subterra_api.job_contract.messages import Budget, RunInput
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.generate import main as stage
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.workers.worker import Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.progress import ProgressReporter
from subterra_jobs.stage.runner import StageContext, StageOutcome
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import Lease
from subterra_testkit.runs.generation_inputs import PAID, run_input


def lease_of(run: RunInput) -> Lease:
    """A lease of the dataset that nobody contests."""
    return Lease(ArtifactStore(run.store), lease_path(run.keys.dataset), 1, run.run.name, "token")


def generate(run: RunInput, tmp_path: Path, max_usd: str | None = None) -> tuple[StageOutcome, Path]:
    """What the stage says of itself, and the directory with its files. Raises what the stage raises."""
    output, store = tmp_path / "output", ArtifactStore(run.store)
    output.mkdir(parents=True)
    environment = replace(StageEnvironment.parse(os.environ), budget=Budget(max_usd=max_usd))
    return stage.work(StageContext(run, environment, store, output, tmp_path, ProgressReporter("generate"), lease_of(run))), output


async def write_hosted(folder: Path, spec: ProcedureSpec, plan: Sequence[ConversationSpec]) -> list[Conversation]:
    """The planned conversations, written with the API that stands in for the provider's; none may fail."""
    run = run_input(folder, spec, teacher=PAID, conversations=150)
    queue = AdmissionQueue(BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget()), RateLimiter(64))
    worker = Worker(run, 4, queue)
    try:
        batch = await worker.write([Conversation(planned) for planned in plan])
    finally:
        await worker.close()
    assert batch.failure is None
    return list(batch.finished)
