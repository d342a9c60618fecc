"""The ranks are started so that they run anywhere, followed, and believed by what they wrote, not by how they exited."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.train import launcher
from subterra_jobs.train.checkpoints import mark_complete, newest_complete, set_aside_unusable
from subterra_jobs.train.launcher import (
    TrainingCrashedError,
    TrainingInterruptedError,
    free_port,
    launch,
    rank_environment,
    threads_per_rank,
    torchrun_command,
)
from subterra_testkit.runs.training_inputs import training_task

TASK = training_task(Path("/task"))


def ranks_that(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a small script in the place of the ranks; ``work`` and ``exchange`` are at hand there."""
    head = (
        "import os, signal, sys, time; from pathlib import Path; from subterra_jobs.train.exchange import Exchange, RankFailure\n"
        "work = Path(sys.argv[1]); exchange = Exchange(work)\n"
    )
    monkeypatch.setattr(launcher, "torchrun_command", lambda ranks, port, work: [sys.executable, "-c", head + script, str(work)])


def test_progress_and_result_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(
        monkeypatch, "exchange.report((1, 2, 0.5, None)); exchange.report((2, 2, None, 0.25)); exchange.succeed({'steps': 2})"
    )
    seen: list[tuple[int, int, float | None, float | None]] = []
    assert launch(TASK, tmp_path, lambda *figures: seen.append(figures)) == {"steps": 2}
    assert seen == [(1, 2, 0.5, None), (2, 2, None, 0.25)]


def test_a_rank_that_aborts_after_all_work_has_succeeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, "exchange.succeed({'steps': 2}); os.abort()")
    assert launch(TASK, tmp_path, lambda *_: None) == {"steps": 2}


def test_a_rank_that_hangs_after_all_work_has_succeeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.2)
    ranks_that(monkeypatch, "signal.signal(signal.SIGTERM, signal.SIG_IGN); exchange.succeed({'steps': 2}); time.sleep(60)")
    assert launch(TASK, tmp_path, lambda *_: None) == {"steps": 2}


def test_a_crash_is_told_with_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, "print('x' * 5000); sys.exit('the tensors are made of cheese')")
    with pytest.raises(TrainingCrashedError, match="made of cheese") as caught:
        launch(TASK, tmp_path, lambda *_: None)
    assert len(str(caught.value)) < 3000


def test_a_typed_failure_of_a_rank_keeps_its_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, "exchange.fail(RankFailure(10, 'no such dataset')); sys.exit(10)")
    with pytest.raises(InvalidInputError, match="no such dataset"):
        launch(TASK, tmp_path, lambda *_: None)


def test_a_killed_rank_is_infrastructure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, "print('Signal 9 (SIGKILL) received by PID 7'); sys.exit(1)")
    with pytest.raises(InfrastructureError, match="memory"):
        launch(TASK, tmp_path, lambda *_: None)


def test_sigterm_reaches_the_ranks_and_is_told_apart_from_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, "exchange.report((1, 2, None, None)); time.sleep(60)")
    started, before = time.monotonic(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterruptedError):
        launch(TASK, tmp_path, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGTERM) is before


def test_ranks_need_no_home_no_name_and_no_compiler(tmp_path: Path):
    found = rank_environment(
        {"HOME": "/nonexistent", "PATH": "/usr/bin", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "8"}, tmp_path
    )
    assert found["HOME"] == str(tmp_path)
    assert found["TORCH_EXTENSIONS_DIR"].startswith(str(tmp_path))
    assert found["USER"] and found["OMP_NUM_THREADS"] == "1" and found["TORCHDYNAMO_DISABLE"] == "1"
    assert "ACCELERATE_USE_CPU" not in found  # it would silently train without DeepSpeed


def test_what_the_pod_sets_is_kept(tmp_path: Path):
    found = rank_environment({"HOME": str(tmp_path), "HF_HOME": "/cache", "USER": "me"}, tmp_path)
    assert (found["HOME"], found["HF_HOME"], found["USER"]) == (str(tmp_path), "/cache", "me")


@pytest.mark.parametrize(
    ("base_model", "ranks", "threads"), [("scratch", 1, 1), ("scratch", 2, 1), ("/m", 1, 8), ("/m", 3, 2), ("/m", 16, 1)]
)
def test_a_pretrained_model_uses_all_cpus_and_the_tiny_one_a_thread_per_rank(base_model: str, ranks: int, threads: int):
    assert threads_per_rank(replace(TASK, base_model=base_model, ranks=ranks), cpus=8) == threads


def test_ranks_get_their_threads_whatever_the_pod_sets_and_do_not_spin_while_they_wait(tmp_path: Path):
    found = rank_environment({"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "8", "OMP_WAIT_POLICY": "active"}, tmp_path, 2)
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"], found["OMP_WAIT_POLICY"]) == ("2", "2", "passive")


def test_one_rank_goes_through_torchrun_too(tmp_path: Path):
    call = torchrun_command(1, free_port(), tmp_path)
    assert "subterra_jobs.train.torchrun" in call and call[call.index("--nproc_per_node") + 1] == "1"


def checkpoint(directory: Path, step: int, ranks: int | None = 1) -> Path:
    path = directory / f"checkpoint-{step}"
    path.mkdir()
    if ranks is not None:
        mark_complete(path, ranks)
    return path


def test_a_training_goes_on_from_the_newest_whole_checkpoint(tmp_path: Path):
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 11, ranks=None)
    checkpoint(tmp_path, 12, ranks=2)
    assert newest_complete(tmp_path, 1) == newest
    set_aside_unusable(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-9"]


def test_without_a_checkpoint_a_training_starts_over(tmp_path: Path):
    assert newest_complete(tmp_path, 1) is None
