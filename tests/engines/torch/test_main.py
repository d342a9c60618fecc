"""The train stage around the training itself."""

import re
from pathlib import Path

import pytest
import torch

from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.stage.pod_group import PodGroup
from subterra_jobs.stage.runner import StageOutcome, execute
from subterra_jobs.stage.visible_gpus import require_gpus
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.train import main
from subterra_jobs.train.exchange import OnProgress, TrainingTask
from subterra_jobs.train.training import TrainingSummary
from subterra_testkit.runs.generation_inputs import run_input


def test_a_model_knows_the_procedure_that_it_was_compiled_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(task: TrainingTask, _: OnProgress, group: PodGroup) -> TrainingSummary:
        assert group.alone
        (task.output_dir / "model.safetensors").write_bytes(b"weights")
        return TrainingSummary(1, "float32", 1, 0.1, 0.1, 1, 0, 1.0)

    monkeypatch.setattr(main, "train", trained)
    run = run_input(tmp_path)
    execute("generate", lambda _: StageOutcome("a dataset"), run, port=0)
    result = execute("train", main.work, run, port=0)
    kept = (ArtifactStore(run.store).local(result.path) / PROCEDURE_FILE).read_text()
    assert ProcedureSpec.model_validate_json(kept) == run.procedure


def test_more_gpus_than_torch_sees_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")  # as in the image for GPUs
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    require_gpus(seen)
    with pytest.raises(InfrastructureError, match=f"torch {re.escape(torch.__version__)} sees {seen}"):
        require_gpus(seen + 1)
