"""A pretrained model is trained through TRL and DeepSpeed without a float32 copy of its weights, on two ranks, and resumes."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.model.base_model import training_dtype
from subterra_jobs.train.ranks.launcher import TrainingInterruptedError
from subterra_jobs.train.training import TrainingSummary, train
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import dataset, terminated_after, training_task

STEPS = 24


@pytest.fixture(scope="module", autouse=True)
def importable_in_subprocesses() -> Any:
    """Ranks import what this process can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of a few kilobytes, and a dataset next to it."""
    folder = tmp_path_factory.mktemp("in-place")
    dataset(folder / "data", train=32)
    return small_llama(folder / "base")


def task(base: Path, name: str, optimizer: str, ranks: int) -> TrainingTask:
    pace = {"max_steps": STEPS, "checkpoint_steps": 4, "batch_size": 16}
    small = training_task(base.parent, **pace, optimizer="adamw", learning_rate=0.003)
    stage = 2 if optimizer == "adamw" else 0
    settings = small.settings.model_copy(update={"optimizer": optimizer, "zero_stage": stage})
    folders = {"output_dir": base.parent / name / "model", "checkpoint_dir": base.parent / name / "checkpoints"}
    return replace(small, base_model=str(base), ranks=ranks, settings=settings, **folders)


@pytest.fixture(scope="module")
def whole(base: Path) -> tuple[TrainingTask, TrainingSummary, list[float]]:
    """A training with states in 8 bits by two ranks, its figures and its losses."""
    losses: list[float] = []
    training = task(base, "whole", "adamw8bit", ranks=2)
    summary = train(training, lambda step, total, loss, _: losses.append(loss) if loss is not None else None)
    return training, summary, losses


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adamwbf16", marks=pytest.mark.exhaustive)])
def test_the_held_out_loss_is_that_of_a_training_with_a_float32_copy(base: Path, optimizer: str, whole: Any) -> None:
    _, found, losses = whole
    assert losses[-1] < 0.9 * losses[0]
    reference = train(task(base, optimizer, optimizer, ranks=1), lambda *_: None)
    assert found.precision == reference.precision
    assert reference.heldout_loss is not None
    assert found.heldout_loss == pytest.approx(reference.heldout_loss, rel=0.02)


def test_a_training_that_was_stopped_and_resumed_has_the_weights_of_one_that_was_not(base: Path, whole: Any) -> None:
    finished, summary, losses = whole
    stopped = task(base, "stopped", "adamw8bit", ranks=2)
    seen: list[float] = []
    with pytest.raises(TrainingInterruptedError):
        train(stopped, terminated_after(9, seen))
    assert seen == losses[: len(seen)]
    resumed = train(stopped, lambda step, total, loss, _: seen.append(loss) if loss is not None else None)
    assert 9 <= resumed.resumed_from_step < STEPS
    assert seen[-1] == losses[-1]
    assert resumed.heldout_loss == summary.heldout_loss
    weights, expected = (load_file(each.output_dir / "model.safetensors") for each in (stopped, finished))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert {weight.dtype for weight in weights.values()} == {training_dtype(str(base))}
