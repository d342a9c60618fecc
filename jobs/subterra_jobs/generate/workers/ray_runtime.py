"""Ray under the pool: one that this process starts for itself, or a cluster over several pods that it joins."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import ray

import subterra_api
import subterra_core
import subterra_jobs
from subterra_api.job_contract.environment import RAY_ENVIRONMENT
from subterra_jobs.errors import InfrastructureError

log = logging.getLogger("subterra")

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Close to Ray's minimum: batches of text are small."""
CHECK_SECONDS = 5.0
"""Interval at which the head of a cluster is looked for."""
HEAD_SECONDS = 20.0
"""How long it may be out of reach. Ray itself kills this process after a minute, without a word."""
CONNECT_SECONDS = 2.0


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
        """A node that shares its processors may need longer than Ray's fixed 30 s, so it gets a second try."""
        _set_environment()
        try:
            self._init()
        except Exception as error:
            log.warning("Ray did not start (%s); trying once more", error)
            ray.shutdown()
            self._init()

    def check(self) -> None:
        """Nothing to check: it lives as long as this process."""

    def stop(self) -> None:
        """Ends Ray and its processes."""
        ray.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _init(self) -> None:
        ray.init(
            address="local",
            num_cpus=self._workers,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=self._temp,
            _node_ip_address="127.0.0.1",
        )


class JoinedRay:
    """A cluster of several pods. This one becomes a node without processors: Ray needs a raylet next to each driver."""

    shared = True

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address, self._clock = address, clock
        self._raylet: subprocess.Popen[bytes] | None = None
        self._reached_at = self._checked_at = clock()

    def start(self) -> None:
        """Joins, and connects this process."""
        _set_environment()
        options = {"address": self._address, "num-cpus": 0, "num-gpus": 0, "object-store-memory": OBJECT_STORE_BYTES}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += [f"--{name}={value}" for name, value in options.items()]
        self._raylet = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        self._reached_at = self._checked_at = self._clock()

    def check(self) -> None:
        """Looks for the head now and then: without it no actor can be made or found."""
        now = self._clock()
        if self._raylet is not None and self._raylet.poll() is not None:
            code = self._raylet.returncode
            raise InfrastructureError(f"Ray in the driver's pod ended with exit code {code}; the next attempt goes on")
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        if _answers(self._address):
            self._reached_at = now
        elif now - self._reached_at >= HEAD_SECONDS:
            raise InfrastructureError(f"the head of the Ray cluster no longer answers at {self._address}; the next attempt goes on")

    def stop(self) -> None:
        """Leaves the cluster, which goes on."""
        ray.shutdown()
        if self._raylet is not None:
            self._raylet.terminate()
            self._raylet.wait()


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
