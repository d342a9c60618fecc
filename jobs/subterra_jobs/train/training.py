"""Runs one training and returns its figures. Loads no training library itself: the ranks do."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.pod_group import ALONE, PodGroup
from subterra_jobs.train.checkpoints.resumable import set_aside_unusable
from subterra_jobs.train.exchange import HELD_OUT_FILE, TRAIN_FILE, OnProgress, TrainingTask
from subterra_jobs.train.ranks.launcher import launch


@dataclass(frozen=True)
class TrainingSummary:
    """Figures of a training. Losses are in nats per token of the agent."""

    steps: int
    precision: str
    """In which the model was trained, such as bfloat16."""
    best_step: int
    loss: float | None
    heldout_loss: float | None
    tokens: int
    resumed_from_step: int
    seconds: float
    checkpoint_seconds: float = 0.0
    """Spent on checkpoints, of `seconds`."""
    left_out: int = 0
    """Training conversations that are longer than `training.maxLength`."""

    @property
    def message(self) -> str:
        """The training in one line."""
        loss = f"{self.heldout_loss:.4f}" if self.heldout_loss is not None else "unknown"
        left_out = f", {self.left_out:,} conversations longer than training.maxLength left out" if self.left_out else ""
        return f"{self.steps:,} steps in {self.precision}, best at {self.best_step:,} with held-out loss {loss}{left_out}"


def train(task: TrainingTask, on_progress: OnProgress, group: PodGroup = ALONE) -> TrainingSummary:
    """Fine-tunes the base model and leaves a model directory in ``task.output_dir``. In a ``group`` this is the first pod.

    A training that was killed resumes from the newest checkpoint in ``task.checkpoint_dir``. Raises StageError.
    """
    started = time.monotonic()
    for name in (TRAIN_FILE, HELD_OUT_FILE):
        if not (task.dataset_dir / name).is_file():
            raise InvalidInputError(f"the dataset has no {name}; run the generate stage again")
    task.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    set_aside_unusable(task.checkpoint_dir, task.ranks)
    with tempfile.TemporaryDirectory(prefix="train-") as work:
        result = launch(task, Path(work), on_progress, group)
    return TrainingSummary(**result, seconds=round(time.monotonic() - started, 1))


def train_along(task: TrainingTask, group: PodGroup) -> None:
    """Runs the ranks of this pod, which is not the first of its group. Raises StageError."""
    with tempfile.TemporaryDirectory(prefix="train-") as work:
        launch(task, Path(work), lambda *_: None, group)
