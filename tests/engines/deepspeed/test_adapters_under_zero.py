"""LoRA through the whole stage: torchrun, TRL, DeepSpeed with divided weights, a kill, a resume, and the merge at the end."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from subterra_api.job_contract.messages import Lora
from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.model.adapters import adapter_parameters
from subterra_jobs.train.model.base_model import training_dtype
from subterra_jobs.train.ranks.launcher import TrainingInterruptedError
from subterra_jobs.train.training import train
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import dataset, terminated_after, training_task


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingTask:
    """A training of adapters with ZeRO-3, on one rank."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path))
    dataset(tmp_path / "data", train=32)
    small = training_task(tmp_path, max_steps=16, checkpoint_steps=4, batch_size=8, optimizer="adamw", zero_stage=3)
    settings = small.settings.model_copy(update={"method": "lora", "lora": Lora(rank=16, alpha=32), "learning_rate": 0.01})
    return replace(small, base_model=str(small_llama(tmp_path / "base")), settings=settings)


def test_adapters_are_trained_killed_resumed_and_merged_at_the_highest_zero_stage(task: TrainingTask) -> None:
    losses: list[float] = []
    with pytest.raises(TrainingInterruptedError):
        train(task, terminated_after(4, losses))
    (checkpoint,) = task.checkpoint_dir.glob("checkpoint-*")
    base = AutoModelForCausalLM.from_pretrained(task.base_model)
    states = sum(file.stat().st_size for file in checkpoint.glob("global_step*/*"))
    assert states < 14 * adapter_parameters(base, 16) + base.num_parameters(), "a checkpoint has the frozen weights too"
    summary = train(task, lambda step, total, loss, _: losses.append(loss) if loss is not None else None)
    assert summary.resumed_from_step >= 4
    assert losses[-1] < 0.95 * losses[0]
    merged, info = AutoModelForCausalLM.from_pretrained(task.output_dir, output_loading_info=True)
    assert not any(info.values())
    assert merged.dtype == training_dtype(task.base_model)
    before = base.to(merged.dtype).state_dict()
    changed = {name for name, weight in merged.state_dict().items() if not weight.equal(before[name])}
    assert changed and all("proj" in name for name in changed)
