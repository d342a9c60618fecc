"""The ranks are started so that they run anywhere, followed, and believed by what they wrote, not by how they exited."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.pod_group import ALONE, PodGroup
from subterra_jobs.train.ranks import launcher
from subterra_jobs.train.ranks.launcher import (
    TrainingCrashedError,
    TrainingInterruptedError,
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
        "import os, signal, sys, time; from pathlib import Path; from subterra_jobs.train.exchange import Exchange\n"
        "from subterra_jobs.train.ranks.rank_failure import RankFailure\n"
        "work = Path(sys.argv[1]); exchange = Exchange(work)\n"
    )
    monkeypatch.setattr(launcher, "torchrun_command", lambda ranks, group, work: [sys.executable, "-c", head + script, str(work)])


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
    monkeypatch.setattr(launcher, "CHECKPOINT_SECONDS", 0.2)
    ranks_that(monkeypatch, "exchange.report((1, 2, None, None)); time.sleep(60)")
    started, before = time.monotonic(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterruptedError):
        launch(TASK, tmp_path, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGTERM) is before


def test_after_sigterm_the_ranks_have_time_to_save_their_state_and_end_by_themselves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    ranks_that(
        monkeypatch,
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('killed')); exchange.report((1, 2, None, None))\n"
        "while not exchange.stop_requested(): time.sleep(0.05)\n"
        "time.sleep(1); (work / 'saved').touch()",
    )
    with pytest.raises(TrainingInterruptedError, match="resumes from the newest checkpoint"):
        launch(TASK, tmp_path, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert (tmp_path / "saved").exists()


def test_before_the_first_step_sigterm_ends_the_ranks_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(monkeypatch, f"os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(TrainingInterruptedError):
        launch(TASK, tmp_path, lambda *_: None)
    assert time.monotonic() - started < 30


def test_what_the_ranks_print_is_in_the_log_of_the_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    ranks_that(monkeypatch, "print('loading the model'); print('a warning', file=sys.stderr); exchange.succeed({})")
    launch(TASK, tmp_path, lambda *_: None)
    printed = capfd.readouterr().err
    assert printed.count("loading the model") == printed.count("a warning") == 1


def test_the_rank_that_failed_first_is_named_and_not_those_that_lost_contact_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    ranks_that(
        monkeypatch,
        "exchange.fail(RankFailure(14, 'rank 0 lost contact', consequence=True), 0)\n"
        "exchange.fail(RankFailure(14, 'the disk is full'), 1); sys.exit(1)",
    )
    with pytest.raises(InfrastructureError, match="the disk is full"):
        launch(TASK, tmp_path, lambda *_: None)


def test_what_a_rank_dies_of_is_in_the_message_of_the_stage_and_its_traceback_in_the_log_of_the_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    ranks_that(
        monkeypatch,
        "from subterra_jobs.train.ranks import rank\n"
        "rank._init_distributed = lambda: None; rank._train = lambda *_: {}['exp_avg']\n"
        "exchange.write_task(exchange.read_task()); code = rank.main(sys.argv[1])\n"
        "[print('torch.distributed.elastic ChildFailedError') for _ in range(999)]; sys.exit(code)",
    )
    with pytest.raises(StageError, match=r"^the training failed. rank 0: KeyError: 'exp_avg' \(<string>:\d+\)$"):
        launch(TASK, tmp_path, lambda *_: None)
    assert "Traceback (most recent call last)" in capfd.readouterr().err


def test_a_killed_rank_explains_why_others_lost_contact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ranks_that(
        monkeypatch,
        "exchange.fail(RankFailure(14, 'lost contact', consequence=True)); print('  exitcode  : -9 (pid: 7)'); sys.exit(1)",
    )
    with pytest.raises(InfrastructureError, match=r"exit code 137.*limits\.memory"):
        launch(TASK, tmp_path, lambda *_: None)


def test_torchruns_own_words_do_not_hide_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    boilerplate = "E1129 torch/distributed/elastic/multiprocessing/api.py:882] failed (exitcode: 1)"
    ranks_that(
        monkeypatch, f"print('Fatal Python error: made of cheese'); [print({boilerplate!r}) for _ in range(99)]; sys.exit(1)"
    )
    with pytest.raises(TrainingCrashedError, match="made of cheese") as caught:
        launch(TASK, tmp_path, lambda *_: None)
    assert "elastic" not in str(caught.value)


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


def test_each_of_two_pods_starts_its_own_ranks_as_a_node_of_one_training(tmp_path: Path):
    call = torchrun_command(8, PodGroup(2, 1, "a-node-0-0.a", 29500), tmp_path)
    found = {option: call[call.index(option) + 1] for option in ("--nproc_per_node", "--nnodes", "--node_rank", "--master_addr")}
    assert list(found.values()) == ["8", "2", "1", "a-node-0-0.a"] and call[call.index("--master_port") + 1] == "29500"
    assert threads_per_rank(replace(TASK, base_model="/m", ranks=16), cpus=8, pods=2) == 1
    assert threads_per_rank(replace(TASK, base_model="/m", ranks=4), cpus=8, pods=2) == 4


def test_ranks_of_several_pods_do_not_talk_over_the_loopback_interface_alone(tmp_path: Path):
    assert rank_environment({}, tmp_path)["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in rank_environment({}, tmp_path, alone=False)
    assert rank_environment({"GLOO_SOCKET_IFNAME": "eth1"}, tmp_path, alone=False)["GLOO_SOCKET_IFNAME"] == "eth1"


def test_one_rank_goes_through_torchrun_too(tmp_path: Path):
    call = torchrun_command(1, ALONE, tmp_path)
    assert "subterra_jobs.train.ranks.torchrun" in call and call[call.index("--nproc_per_node") + 1] == "1"
