"""A serving pod without a model: the command of the operator's container, on a stand-in for vLLM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from subterra_operator.specs.in_vllm.drainable_vllm import IDLE_PATH
from subterra_operator.specs.vllm_container import Model, command, drain_command
from subterra_testkit.servers.local_server import free_port
from subterra_testkit.servers.serving.pod_end import end_container

START_SECONDS = 30


@dataclass(frozen=True)
class StandInPod:
    """A running server at a local port."""

    process: "subprocess.Popen[bytes]"
    port: int

    async def end(self, quiet: float = 0.5, grace: float = 30) -> float:
        """Ends it as the kubelet would, with the operator's hook; returns how many seconds it took."""
        hook = drain_command(f"http://127.0.0.1:{self.port}{IDLE_PATH}", quiet)
        return await end_container(self.process, hook, grace)


@contextmanager
def stand_in_pod(package: Path, seconds: float = 0.05, without: Sequence[str] = ()) -> Iterator[StandInPod]:
    """A pod whose replies take `seconds`; `package` is a folder of `make_package`, `without` are words left out of its command."""
    port = free_port()
    line = command(Model("models/1", "travel"), ["--port", str(port), "--seconds", str(seconds)])
    words = [word for word in line[1:] if word not in without]
    process = subprocess.Popen([sys.executable, *words], cwd=package, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        yield StandInPod(process, port)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=2).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"{url} did not answer within {START_SECONDS} s")
