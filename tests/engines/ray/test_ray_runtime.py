"""How a driver joins a Ray cluster and misses it, without Ray's processes."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.generate.workers import ray_runtime
from subterra_jobs.generate.workers.ray_runtime import JoinedRay

NOWHERE = "127.0.0.1:1"
HANGING_DRIVER = """
import threading
from subterra_jobs.generate.workers import ray_runtime
ray_runtime.CHECK_SECONDS, ray_runtime.HEAD_SECONDS, ray_runtime.LAST_SECONDS = 0.05, 0.1, 0.1
joined = ray_runtime.JoinedRay("127.0.0.1:1")
joined._join = lambda: None
joined.start()
threading.Event().wait()  # a call to Ray that waits for the head
"""


def test_a_main_thread_that_hangs_in_a_call_to_ray_is_ended_with_the_reason_as_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBTERRA_TERMINATION_LOG", str(tmp_path / "termination"))
    monkeypatch.setenv("PYTHONPATH", ray_runtime._python_path())
    ended = subprocess.run([sys.executable, "-c", HANGING_DRIVER], timeout=240, capture_output=True, check=False)
    assert ended.returncode == ExitCode.INFRASTRUCTURE, ended.stderr
    assert (tmp_path / "termination").read_text() == (
        "the head of the Ray cluster no longer answers at 127.0.0.1:1; the next attempt goes on"
    )


def test_a_main_thread_that_ends_by_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, joined = threading.Event(), JoinedRay(NOWHERE)
    monkeypatch.setattr(ray_runtime, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(ray_runtime, "HEAD_SECONDS", 0.0)
    monkeypatch.setattr(ray_runtime, "end_at_once", lambda _: ended.set())
    watching = threading.Thread(target=joined._watch)
    watching.start()
    while joined._lost is None:
        watching.join(0.01)
    joined.stop()
    watching.join(10)
    assert not watching.is_alive()
    assert not ended.is_set()


def test_a_raylet_that_cannot_join_is_tried_three_times_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def refused(command: list[str], **options: object) -> "subprocess.Popen[bytes]":
        started.append(command)
        return popen([sys.executable, "-c", "print('no such cluster')"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", refused)
    joined = JoinedRay(NOWHERE)
    with pytest.raises(RuntimeError, match=r"could not join the Ray cluster at 127\.0\.0\.1:1: no such cluster"):
        joined.start()
    joined.stop()
    assert len(started) == ray_runtime.START_TRIES
    assert not joined._temp.exists()
