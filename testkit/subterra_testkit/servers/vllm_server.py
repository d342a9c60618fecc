"""A real vLLM server, started as the operator starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from subterra_operator.specs.vllm_container import Model, command

START_SECONDS = 500
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@contextmanager
def vllm_server(model: Path, name: str, work: Path, max_length: int = 4096, *arguments: str) -> Iterator[str]:
    """URL of a server of the model in directory `model`; `work` holds its cache and log."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    extra = ["--model", str(model), "--host", "127.0.0.1", "--port", str(port), *arguments]
    line = [sys.executable, *command(Model("unused", name, "scratch", max_length=max_length), extra)[1:]]
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log"
    with log.open("wb") as out:
        home = {"VLLM_CACHE_ROOT": str(work), "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1", "VLLM_NO_USAGE_STATS": "1"}
        server = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=os.environ | CPU | home, start_new_session=True)
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # with its engine; there is nothing to save
        server.wait(10)


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    pytest.fail(f"vLLM did not start:\n{log.read_text()[-3000:]}")
