"""How far a stage is, told on its own port."""

import socket
import struct
import threading
from typing import Any

import httpx
import pytest

from subterra_api.job_contract.messages import Progress
from subterra_jobs.stage.progress import ProgressReporter


def test_progress_is_told_as_json() -> None:
    reporter = ProgressReporter("train")
    reporter.update(3, 10, "steps", message="loss 0.5")
    server = reporter.serve(0)
    assert server is not None
    told = httpx.get(f"http://127.0.0.1:{server.server_port}/progress", trust_env=False)
    assert (told.json()["done"], told.json()["percent"], told.json()["message"]) == (3, 30, "loss 0.5")
    assert httpx.get(f"http://127.0.0.1:{server.server_port}/other", trust_env=False).status_code == 404
    server.shutdown()


def test_a_caller_that_hangs_up_leaves_no_trace_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    hung_up, asked = threading.Event(), threading.Event()

    class Slow(Progress):
        def model_dump(self, **options: Any) -> dict[str, Any]:
            asked.set()
            assert hung_up.wait(10)
            return super().model_dump(**options) | {"message": "x" * 10_000_000}

    reporter = ProgressReporter("train")
    reporter.current = Slow(stage="train")
    server = reporter.serve(0)
    assert server is not None
    server.daemon_threads = False  # so that its close waits for them
    with socket.create_connection(("127.0.0.1", server.server_port)) as caller:
        caller.sendall(b"GET /progress HTTP/1.1\r\nHost: me\r\n\r\n")
        assert asked.wait(10)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is gone at once
    hung_up.set()
    server.shutdown()
    server.server_close()
    assert "Traceback" not in capfd.readouterr().err
