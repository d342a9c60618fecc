"""The generate stage in this process."""

import os
from dataclasses import replace
from pathlib import Path

from subterra_api.job_contract.artifacts import lease_path
from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.generate import main as stage
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.progress import ProgressReporter
from subterra_jobs.stage.runner import StageContext, StageOutcome
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import Lease


def lease_of(run: RunInput) -> Lease:
    """A lease of the dataset that nobody contests."""
    return Lease(ArtifactStore(run.store), lease_path(run.keys.dataset), 1, run.run.name, "token")


def generate(run: RunInput, tmp_path: Path, max_usd: str | None = None) -> tuple[StageOutcome, Path]:
    """What the stage says of itself, and the directory with its files. Raises what the stage raises."""
    output, store = tmp_path / "output", ArtifactStore(run.store)
    output.mkdir(parents=True)
    environment = replace(StageEnvironment.parse(os.environ), budget=Budget(max_usd=max_usd))
    return stage.work(StageContext(run, environment, store, output, tmp_path, ProgressReporter("generate"), lease_of(run))), output
