"""Checkpoints are bounded in time and size."""

from pathlib import Path

import pytest

from subterra_jobs.errors import InfrastructureError
from subterra_jobs.train.checkpoints.save_cadence import SaveCadence, checkpoint_bytes, require_room, shortage


@pytest.mark.parametrize("save_seconds", [0.1, 5.0, 45.0, 400.0])
@pytest.mark.parametrize("step_seconds", [0.2, 10.0])
def test_checkpoints_take_at_most_a_twentieth_of_a_long_training(save_seconds: float, step_seconds: float) -> None:
    cadence, now, start = SaveCadence(), 1000.0, 1000.0
    saves = 0
    while now - start < 100 * max(save_seconds, step_seconds):
        now += step_seconds
        if cadence.due(now):
            cadence.saved(now, now + save_seconds, resumable=True)
            now += save_seconds
            saves += 1
    after_the_first = cadence.seconds - save_seconds  # which is needed to know how long one takes
    assert after_the_first <= 0.05 * (now - start)
    assert saves >= 2


def test_the_first_checkpoint_is_due_at_once_and_weights_alone_delay_no_other() -> None:
    cadence = SaveCadence()
    assert cadence.due(0.0)
    cadence.saved(0.0, 10.0, resumable=True)
    cadence.saved(199.0, 200.0, resumable=False)
    assert not cadence.due(199.9)
    assert cadence.due(200.1)
    assert cadence.seconds == 11.0


def test_a_checkpoint_has_fourteen_bytes_a_parameter_with_zero_3_and_the_weights_twice_below() -> None:
    assert checkpoint_bytes(1000, 2, 3, "adamw") == 14_000
    assert checkpoint_bytes(1000, 2, 2, "adamw") == 16_000
    assert checkpoint_bytes(1024, 2, 0, "adamw8bit") == 6_176


def test_too_little_room_is_said_with_both_numbers_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 12_000_000_000}))
    assert shortage(tmp_path, 11_000_000_000) is None
    with pytest.raises(InfrastructureError, match=r"43 GB, and its volume has 12 GB free; free some space or raise store\.size"):
        require_room(tmp_path, 43_000_000_000)
