"""When a checkpoint is worth its time and has room. Pure, but for the free space of a volume."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from subterra_api.v1alpha1.training_settings import Optimizer
from subterra_core.training_fit.memory_estimate import OPTIMIZER_BYTES
from subterra_core.training_fit.training_plan import gigabytes
from subterra_jobs.errors import InfrastructureError

LARGEST_SHARE = 0.05
"""Of the time of a training, for its checkpoints."""


@dataclass
class SaveCadence:
    """Measures checkpoints and says when the next one is due: not so often that they take more than `LARGEST_SHARE` of the time."""

    seconds: float = 0.0
    """Spent on all checkpoints so far."""
    last_seconds: float = 0.0
    ended: float | None = None
    """When the last one was complete; `None` before the first, which is due at once."""

    def due(self, now: float) -> bool:
        """Whether the last checkpoint was long enough ago."""
        return self.ended is None or (now - self.ended) * LARGEST_SHARE >= self.last_seconds * (1 - LARGEST_SHARE)

    def saved(self, started: float, ended: float, *, resumable: bool) -> None:
        """Counts a checkpoint; weights alone move no later one."""
        self.seconds += ended - started
        if resumable:
            self.last_seconds, self.ended = ended - started, ended


def checkpoint_bytes(parameters: int, weight_bytes: int, zero_stage: int, optimizer: Optimizer) -> int:
    """Bytes of a resumable checkpoint. Below stage 3 DeepSpeed writes the weights a second time."""
    return math.ceil(parameters * (OPTIMIZER_BYTES[optimizer] + weight_bytes * (1 if zero_stage == 3 else 2)))


def shortage(directory: Path, needed: int) -> str | None:
    """What is missing for ``needed`` bytes in ``directory``, with numbers and what to do; `None` if they fit."""
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    return (
        f"a checkpoint of this training has {gigabytes(needed)}, and its volume has {gigabytes(free)} free; free some space or "
        "raise store.size"
    )


def require_room(directory: Path, needed: int) -> None:
    """Raises InfrastructureError unless ``directory`` has room for ``needed`` bytes."""
    missing = shortage(directory, needed)
    if missing is not None:
        raise InfrastructureError(missing)
