"""A daemon's pid file names one process for ever, and nothing else is ever signalled."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from subterra_cluster.host.processes import Daemon, Supervisor, read_record, start_time
from subterra_cluster.host.shell import ClusterError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "pids", tmp_path / "logs", die_with_parent=True)
    yield made
    made.stop_all(patience=0)


def sleeper(name: str = "sleeper", *, extra: str = "", ready: bool = True) -> Daemon:
    return Daemon(name, [*SLEEP, extra], lambda: ready, timeout=0.2)


def test_a_recycled_pid_is_never_killed(supervisor: Supervisor) -> None:
    bystander = subprocess.Popen(SLEEP)
    try:
        record = {"pid": bystander.pid, "started": (start_time(bystander.pid) or 0) - 1, "command": SLEEP}
        supervisor.pids.mkdir(parents=True)
        (supervisor.pids / "old.json").write_text(json.dumps(record))

        assert not supervisor.running("old")
        assert not supervisor.stop("old")
        assert bystander.poll() is None
        assert supervisor.names() == []
    finally:
        bystander.kill()
        bystander.wait()


def test_a_running_daemon_is_not_started_twice(supervisor: Supervisor) -> None:
    assert supervisor.ensure(sleeper())
    assert not supervisor.ensure(sleeper())


def test_a_new_command_replaces_the_running_one(supervisor: Supervisor) -> None:
    supervisor.ensure(sleeper(extra="old"))
    before = supervisor.record("sleeper")
    assert supervisor.ensure(sleeper(extra="new"))
    after = supervisor.record("sleeper")
    assert before is not None
    assert after is not None
    assert start_time(before.pid) is None
    assert after.command[-1] == "new"


def test_a_daemon_that_dies_at_start_shows_the_end_of_its_log(supervisor: Supervisor) -> None:
    broken = Daemon("broken", [sys.executable, "-c", "raise SystemExit('no such disk')"], lambda: False, timeout=10)
    supervisor.ensure(broken)
    with pytest.raises(ClusterError, match="no such disk"):
        supervisor.wait(broken)


def test_a_daemon_that_never_answers_fails_with_its_name(supervisor: Supervisor) -> None:
    silent = sleeper("silent", ready=False)
    supervisor.ensure(silent)
    with pytest.raises(ClusterError, match="silent is not ready"):
        supervisor.wait(silent)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_pid_file_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert read_record(path) is None


def test_the_start_time_survives_odd_process_names(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (odd) name (x) S {fields}\n")
    assert start_time(7, tmp_path) == 22
