"""Bytes that a training needs on the store's volume."""

import math
from dataclasses import dataclass

from subterra_core.training_fit.memory_estimate import OPTIMIZER_BYTES, WEIGHT_BYTES, TrainingSetup

KEPT_CHECKPOINTS = 2
"""One is kept, and goes when the next one is complete (`train/checkpoints/resumable.py`)."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes on the store's volume at the fullest moment of a training."""

    checkpoint: int
    """One checkpoint: weights and optimizer states of what is trained, no gradients. Measured for AdamW in bfloat16: 14.0 bytes a
    parameter with ZeRO-3; below it DeepSpeed writes the weights a second time."""
    checkpoints: int
    """How many there are at the same time."""
    model: int
    """The weights with the lowest held-out loss, which become the finished model before the checkpoints go."""

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.model


def disk_need(setup: TrainingSetup, saves: int) -> DiskNeed:
    """The need of a training that writes ``saves`` checkpoints in all."""
    weights = WEIGHT_BYTES[setup.precision] * setup.shape.parameters
    state = WEIGHT_BYTES[setup.precision] * (1 if setup.zero_stage == 3 else 2) + OPTIMIZER_BYTES[setup.optimizer]
    return DiskNeed(math.ceil(state * setup.trained_parameters), max(1, min(KEPT_CHECKPOINTS, saves)), weights)


def optimizer_steps(conversations: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Steps of a training; an incomplete last batch of an epoch is dropped."""
    steps = epochs * (conversations // batch_size)
    return min(steps, max_steps) if max_steps else steps
