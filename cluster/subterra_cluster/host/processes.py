"""Daemons with a pid file: started in their own session, waited for, and identified by pid and start time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subterra_cluster.host.shell import ClusterError, tail

PROC = Path("/proc")


@dataclass(frozen=True)
class Daemon:
    """A background program. `ready` queries its health endpoint once and never raises."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    timeout: float = 60.0
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """Contents of a pid file. Pid and start time identify a process; a pid alone may be reused."""

    pid: int
    started: int
    command: list[str]


def start_time(pid: int, proc: Path = PROC) -> int | None:
    """Start time of a process in ticks since boot, or `None` if it has ended or is a zombie."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def read_record(path: Path) -> Record | None:
    """The record in a pid file, or `None` if it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
        return Record(int(content["pid"]), int(content["started"]), [str(word) for word in content["command"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def alive(record: Record | None, proc: Path = PROC) -> bool:
    """Whether the recorded process still runs; another process with the same pid does not count."""
    return record is not None and start_time(record.pid, proc) == record.started


class Supervisor:
    """Starts, checks and stops the daemons of one folder (`pids/` and `logs/` in it)."""

    def __init__(self, pids: Path, logs: Path, *, die_with_parent: bool = False) -> None:
        """Use the two folders; with `die_with_parent` the kernel kills the daemons when this process dies."""
        self.pids = pids
        self.logs = logs
        self.die_with_parent = die_with_parent
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def record(self, name: str) -> Record | None:
        """The record of a daemon, if there is one."""
        return read_record(self.pids / f"{name}.json")

    def running(self, name: str) -> bool:
        """Whether the daemon that we started is alive."""
        return alive(self.record(name))

    def names(self) -> list[str]:
        """Names of all daemons with a pid file, in start order."""
        files = sorted(self.pids.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in files]

    def ensure(self, daemon: Daemon) -> bool:
        """Start the daemon unless it already runs with the same command; whether it was started."""
        known = self.record(daemon.name)
        if known is not None and alive(known):
            if known.command == list(daemon.command):
                return False
            self.stop(daemon.name)
        self._start(daemon)
        return True

    def _start(self, daemon: Daemon) -> None:
        """Start in a new session, with the log as output; write the pid file."""
        self.pids.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        prefix = ["setpriv", "--pdeathsig", "KILL", "--"] if self.die_with_parent else []
        with (self.logs / f"{daemon.name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*prefix, *daemon.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **daemon.env},
            )
        self._children[daemon.name] = child
        record = {"pid": child.pid, "started": start_time(child.pid) or 0, "command": list(daemon.command)}
        temporary = self.pids / f".{daemon.name}.tmp"
        temporary.write_text(json.dumps(record))
        temporary.rename(self.pids / f"{daemon.name}.json")

    def wait(self, daemon: Daemon) -> None:
        """Wait until the daemon is ready. Raises ClusterError with the end of its log if it dies or takes too long."""
        deadline = time.monotonic() + daemon.timeout
        while not daemon.ready():
            if not self._still_runs(daemon.name):
                raise ClusterError(f"{daemon.name} ended during its start; the end of {self._log_tail(daemon.name)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{daemon.name} is not ready after {daemon.timeout:.0f} s; the end of {self._log_tail(daemon.name)}"
                )
            time.sleep(0.05)

    def _still_runs(self, name: str) -> bool:
        """Whether the daemon is alive; reaps it when it is our child."""
        child = self._children.get(name)
        return (child is None or child.poll() is None) and self.running(name)

    def _log_tail(self, name: str) -> str:
        """The log's path and its last lines."""
        path = self.logs / f"{name}.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return f"{path}:\n{tail(text)}"

    def stop(self, name: str, *, patience: float = 5.0) -> bool:
        """Stop the daemon with SIGTERM, then SIGKILL after `patience` seconds; whether it was running."""
        record = self.record(name)
        ran = False
        if record is not None and alive(record):
            ran = True
            _signal(record, signal.SIGTERM if patience > 0 else signal.SIGKILL)
            if not self._gone(name, record, patience):
                _signal(record, signal.SIGKILL)
                self._gone(name, record, 5.0)
        (self.pids / f"{name}.json").unlink(missing_ok=True)
        return ran

    def stop_all(self, *, patience: float = 5.0) -> None:
        """Stop all daemons in reverse start order, so that each stops before its dependencies."""
        for name in reversed(self.names()):
            self.stop(name, patience=patience)

    def _gone(self, name: str, record: Record, patience: float) -> bool:
        """Wait until the process has ended; whether it has."""
        deadline = time.monotonic() + patience
        while True:
            child = self._children.get(name)
            if child is not None:
                child.poll()
            if not alive(record):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def _signal(record: Record, number: signal.Signals) -> None:
    """Send a signal to the process of the record, if it is still that process."""
    if alive(record):
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return
