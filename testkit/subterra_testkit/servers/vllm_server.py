"""A real vLLM server, started as the operator starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from subterra_api.v1alpha1.compilerun import BaseModelKind
from subterra_operator.specs.vllm_container import Model, command
from subterra_testkit.servers.local_server import free_port

START_SECONDS = 500
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class ServerStartError(Exception):
    """A server that did not start; the message ends with the tail of its log."""


@contextmanager
def vllm_server(
    model: Path,
    name: str,
    work: Path,
    max_length: int | None = 4096,
    *arguments: str,
    kind: BaseModelKind = "scratch",
    tools: bool = False,
) -> Iterator[str]:
    """URL of a server of the model in directory `model`; `work` holds its cache and log. `kind` decides the precision.

    Without a `max_length` the model's own counts; with `tools` calls are parsed. Raises ServerStartError.
    """
    with vllm_process(model, name, work, max_length, *arguments, kind=kind, tools=tools) as (_, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def vllm_process(
    model: Path,
    name: str,
    work: Path,
    max_length: int | None = 4096,
    *arguments: str,
    kind: BaseModelKind = "scratch",
    tools: bool = False,
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """The same, with the process itself, which leads a session, and its port."""
    port = free_port()
    line = server_command(model, Model("unused", name, kind, max_length=max_length, tools=tools), port, *arguments)
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log"
    with log.open("wb") as out:
        home = {"VLLM_CACHE_ROOT": str(work), "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1", "VLLM_NO_USAGE_STATS": "1"}
        server = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=os.environ | CPU | home, start_new_session=True)
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield server, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # with its engine; there is nothing to save
        server.wait(10)


def server_command(directory: Path, model: Model, port: int, *arguments: str) -> list[str]:
    """The operator's command line for this kind of model, with this interpreter, directory and port."""
    extra = ["--model", str(directory), "--host", "127.0.0.1", "--port", str(port), *arguments]
    return [sys.executable, *command(model, extra)[1:]]


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    problem = f"was not ready within {START_SECONDS} s" if server.poll() is None else f"exited with code {server.returncode}"
    raise ServerStartError(f"vLLM {problem}; its log {log} ends:\n{log.read_text()[-3000:]}")
