"""Memory that a training on a CPU has freed goes back to the system."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from subterra_jobs.train.ranks.freed_memory import STEPS, FreedMemoryCallback


def test_the_heap_is_trimmed_every_few_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trimmed: list[int] = []
    callback = FreedMemoryCallback()
    monkeypatch.setattr(callback, "_trim", trimmed.append)
    for step in range(1, 3 * STEPS):
        state = TrainerState(global_step=step)
        callback.on_step_end(TrainingArguments(str(tmp_path), use_cpu=True), state, TrainerControl())
    assert trimmed == [0, 0]


def test_glibc_has_what_it_calls() -> None:
    assert FreedMemoryCallback()._trim is not None
