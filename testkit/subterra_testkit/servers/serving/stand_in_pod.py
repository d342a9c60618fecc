"""A serving pod without a model: the command of the operator's container, on a stand-in for vLLM."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from subterra_operator.specs.deployment import GRACE_AFTER_DRAIN_SECONDS
from subterra_operator.specs.in_vllm.drainable_vllm import IDLE_PATH
from subterra_operator.specs.vllm_container import DRAIN_SECONDS, Model, command, drain_command
from subterra_testkit.servers.local_server import free_port
from subterra_testkit.servers.serving.pod_end import end_container

START_SECONDS = 30


@dataclass(frozen=True)
class StandInPod:
    """A running server at a local port."""

    process: "subprocess.Popen[bytes]"
    port: int

    async def end(self, quiet: float = 0.5, grace: float = DRAIN_SECONDS + GRACE_AFTER_DRAIN_SECONDS) -> float:
        """Ends it as the kubelet would, with the operator's hook; returns how many seconds it took."""
        hook = drain_command(self._idle_url, quiet)
        return await end_container(self.process, hook, grace)

    @asynccontextmanager
    async def held(self, body: bytes) -> AsyncIterator[None]:
        """The pod within a request for as long as the block lasts: its body comes at the end. So no pause of others is quiet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: pod\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        async with httpx.AsyncClient(trust_env=False) as client:
            while (await client.get(self._idle_url)).text != "0.0":  # noqa: ASYNC110  the pod tells nobody
                await asyncio.sleep(0.05)
        yield
        writer.write(body)
        answer = await reader.read()
        writer.close()
        assert b" 200 " in answer.partition(b"\r\n")[0], answer

    @property
    def _idle_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{IDLE_PATH}"


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
