"""Ray under the pool: one that this process starts for itself, or a cluster over several pods that it joins."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ray

import subterra_api
import subterra_core
import subterra_jobs
from subterra_api.job_contract.environment import RAY_ENVIRONMENT
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.stage.cancellation import signal_handlers_kept
from subterra_jobs.stage.runner import end_at_once

log = logging.getLogger("subterra")

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Close to Ray's minimum: batches of text are small."""
START_TRIES = 3
JOIN_SECONDS = 120.0
"""How long a raylet may take to join. Ray gives up before that, by itself, on all that it foresees."""
STARTED = "Ray runtime started."
"""Printed by ``ray start``."""
CHECK_SECONDS = 5.0
"""Interval at which the head of a cluster is looked for."""
HEAD_SECONDS = 20.0
"""How long it may be out of reach. Ray itself kills this process after a minute, without a word."""
LAST_SECONDS = 30.0
"""How long the stage may take to end by itself after that; a little more than its calls in flight."""
CONNECT_SECONDS = 2.0
LEAVE_SECONDS = 10.0


class RayRuntime(Protocol):
    """Where actors run."""

    shared: bool
    """Whether they run in other pods too, which come and go."""

    def start(self) -> None:
        """Connects this process. Raises what Ray raises."""
        ...

    def check(self) -> None:
        """Raises InfrastructureError when the work cannot go on."""
        ...

    def stop(self) -> None:
        """Ends what `start` has begun."""
        ...


def ray_runtime(address: str | None, workers: int) -> RayRuntime:
    """The cluster at ``address``; without one a Ray of this pod's own, with a processor for each worker."""
    return JoinedRay(address) if address else OwnRay(workers)


class OwnRay:
    """Ray in this pod alone."""

    shared = False

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # A short path: the sockets in it may have 107 bytes.
        self._temp = tempfile.mkdtemp(prefix="ray", dir="/tmp")

    def start(self) -> None:
        """Starts it, and connects this process."""
        _set_environment()
        _try(self._init)

    def check(self) -> None:
        """Nothing to check: it lives as long as this process."""

    def stop(self) -> None:
        """Ends Ray and its processes."""
        ray.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _init(self) -> None:
        _connect(
            address="local",
            num_cpus=self._workers,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=self._temp,
            _node_ip_address="127.0.0.1",
        )


class JoinedRay:
    """A cluster of several pods. This one becomes a node without processors: Ray needs a raylet next to each driver.

    A thread looks after cluster and raylet, because calls to Ray wait for a head that is gone, until Ray kills this process.
    """

    shared = True

    def __init__(self, address: str) -> None:
        self._address = address
        # A short path, as above. By it the driver finds its raylet among those of a machine.
        self._temp = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        self._raylet: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._lost: InfrastructureError | None = None

    def start(self) -> None:
        """Joins, and connects this process."""
        _set_environment()
        _try(self._join)
        threading.Thread(target=self._watch, daemon=True).start()

    def check(self) -> None:
        """Raises what the watching thread has found."""
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """Leaves the cluster, which goes on."""
        ray.shutdown()
        self._leave()
        self._stopped.set()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _join(self) -> None:
        self._leave()  # that of an earlier try
        options = {"address": self._address, "temp-dir": self._temp, "object-store-memory": OBJECT_STORE_BYTES}
        options |= {"num-cpus": 0, "num-gpus": 0, "include-log-monitor": False}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (self._temp / "start.log").open("wb") as output:
            self._raylet = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self._wait_for(self._raylet)
        _connect(address=self._address, _temp_dir=str(self._temp))

    def _wait_for(self, raylet: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        while STARTED not in (said := (self._temp / "start.log").read_text(errors="replace")):
            if raylet.poll() is not None or time.monotonic() > deadline:
                last = said.strip().splitlines()[-1:] or ["no output"]
                raise RuntimeError(f"this pod could not join the Ray cluster at {self._address}: {last[0]}")
            time.sleep(0.1)

    def _watch(self) -> None:
        """Finds out that the work cannot go on, and ends the process if the main thread does not."""
        reached_at = time.monotonic()
        while self._lost is None:
            if self._stopped.wait(CHECK_SECONDS):
                return
            now = time.monotonic()
            reached_at = now if _answers(self._address) else reached_at
            self._lost = self._loss(now - reached_at)
        if not self._stopped.wait(LAST_SECONDS):
            end_at_once(self._lost)

    def _loss(self, unreached: float) -> InfrastructureError | None:
        if self._raylet is not None and (code := self._raylet.poll()) is not None:
            return InfrastructureError(f"Ray in the driver's pod ended with exit code {code}; the next attempt goes on")
        if unreached >= HEAD_SECONDS:
            return InfrastructureError(
                f"the head of the Ray cluster no longer answers at {self._address}; the next attempt goes on"
            )
        return None

    def _leave(self) -> None:
        if self._raylet is None:
            return
        self._raylet.terminate()
        try:
            self._raylet.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:  # its processes end with it
            self._raylet.kill()
            self._raylet.wait()


def _try(action: Callable[[], None]) -> None:
    """Does it. A node that shares its processors may need longer than Ray's fixed 30 s, so it is tried again."""
    for tries_left in reversed(range(START_TRIES)):
        try:
            action()
        except Exception as error:
            if not tries_left:
                raise
            log.warning("Ray did not start (%s); trying again", error)
            ray.shutdown()
        else:
            return


def _connect(**options: Any) -> None:
    # Ray's handler aborts a process that is still there three seconds after a SIGTERM, whatever it has to finish
    # (https://github.com/ray-project/ray/pull/64830).
    with signal_handlers_kept():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _set_environment() -> None:
    """For Ray and for the workers of this pod; those of other pods have theirs from the operator."""
    os.environ.update(RAY_ENVIRONMENT | {"PYTHONPATH": _python_path()})


def _python_path() -> str:
    """A PYTHONPATH with which workers find this process's packages, installed or not."""
    packages = (subterra_jobs, subterra_core, subterra_api)
    roots = [str(Path(package.__file__).parent.parent) for package in packages if package.__file__]
    return os.pathsep.join(dict.fromkeys([*roots, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
