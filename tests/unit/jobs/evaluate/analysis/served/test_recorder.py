"""The recorder in front of a real ASGI application: every byte passes, and nothing that goes wrong in it fails a request."""

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from subterra_jobs.evaluate.analysis.served import recorder
from subterra_jobs.evaluate.analysis.served.recorder import Allowance, Copy, Recorder, Writer

CHAT = "/v1/chat/completions"
REPLY = {"choices": [{"message": {"role": "assistant", "content": "Welcome!"}, "finish_reason": "stop"}]}
CHUNKS = [b'data: {"choices":[{"delta":{"content":"Wel"}}]}\n\n', b'data: {"choices":[{"delta":{"content":"come!"}}]}\n\n']


async def _chat(request: Request) -> Response:
    body = await request.json()
    if body.get("fail"):
        return JSONResponse({"error": "no"}, status_code=400)
    if not body.get("stream"):
        return JSONResponse(REPLY)

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/event-stream")


def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


APP = Starlette(routes=[Route(CHAT, _chat, methods=["POST"]), Route("/health", _health)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(recorder.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv(recorder.SAMPLE_VARIABLE, "All")
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.02)
    return tmp_path


def post(app: Any, body: object = None, headers: dict[str, str] | None = None) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vllm") as client:
            return await client.post(CHAT, json=body or {"messages": []}, headers=headers)

    return asyncio.run(ask())


def eventually(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (found := ready()):
        assert time.monotonic() < deadline, "the recorder's thread wrote nothing within 10 s"
        time.sleep(0.01)
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / recorder.INCOMING).glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def test_a_request_and_its_reply_are_recorded_as_they_were_sent(folder: Path) -> None:
    response = post(Recorder(APP), {"messages": [{"role": "user", "content": "Hi"}]})
    assert response.json() == REPLY
    (record,) = eventually(lambda: records(folder))
    assert json.loads(record["request"])["messages"][0]["content"] == "Hi"
    assert json.loads(record["response"]) == REPLY


def written_counts(folder: Path) -> dict[str, int]:
    file = folder / recorder.COUNTS_FILE
    return json.loads(file.read_text()) if file.is_file() else {}


async def _parts(app: Any, *, client_leaves: bool = False) -> list[Any]:
    """Messages that a server would send for a streamed reply."""
    sent: list[Any] = []
    body = iter([{"type": "http.request", "body": b'{"stream": true}', "more_body": False}])

    async def receive() -> Any:
        if (message := next(body, None)) or client_leaves:
            return message or {"type": "http.disconnect"}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}, receive, send)
    return sent


def test_a_streamed_reply_passes_part_by_part_and_unchanged(folder: Path) -> None:
    through, straight = asyncio.run(_parts(Recorder(APP))), asyncio.run(_parts(APP))
    assert through == straight
    assert [part["body"] for part in through[1:]] == [*CHUNKS, b""]
    (record,) = eventually(lambda: records(folder))
    assert record["response"].encode() == b"".join(CHUNKS)


def test_a_reply_whose_client_has_left_is_not_recorded(folder: Path) -> None:
    app = Recorder(APP)
    assert len(asyncio.run(_parts(app, client_leaves=True))) < 2 + len(CHUNKS)
    post(app, {"messages": ["later"]})
    assert [json.loads(each["request"]) for each in eventually(lambda: records(folder))] == [{"messages": ["later"]}]


class ExplodingWriter(Writer):
    def offer(self, copy: Copy) -> None:
        raise RuntimeError("the recorder is broken")


@pytest.mark.parametrize("stream", [False, True])
def test_a_recorder_that_fails_fails_no_request(folder: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the recorder is broken")

    for method in ("received", "sent"):
        monkeypatch.setattr(Copy, method, explode)
    response = post(Recorder(APP, ExplodingWriter(folder)), {"stream": stream})
    assert response.status_code == 200
    assert response.content == b"".join(CHUNKS) if stream else response.json() == REPLY


def test_a_request_is_served_even_if_sampling_itself_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_: Allowance) -> bool:
        raise RuntimeError("no clock")

    monkeypatch.setattr(Allowance, "take", explode)
    assert post(Recorder(APP)).json() == REPLY


def test_a_disk_that_cannot_be_written_is_counted_and_fails_no_request(folder: Path) -> None:
    (folder / recorder.INCOMING).write_text("a file where the folder should be")
    writer = Writer(folder)
    assert post(Recorder(APP, writer)).json() == REPLY
    assert eventually(lambda: writer.counts["error"]) == 1


@pytest.mark.parametrize(
    ("sample", "header", "recorded"),
    [("OptIn", None, False), ("OptIn", "yes", True), ("OptIn", "no", False), ("All", None, True), ("All", "no", False)],
)
def test_the_client_decides_by_a_header(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sample: str, header: str | None, recorded: bool
) -> None:
    monkeypatch.setenv(recorder.SAMPLE_VARIABLE, sample)
    writer = Writer(folder)
    post(Recorder(APP, writer), headers={"X-Subterra-Record": header} if header else None)
    assert writer.counts["seen"] == recorded


def test_failed_requests_and_other_pages_are_not_recorded(folder: Path) -> None:
    app = Recorder(APP)
    assert post(app, {"fail": True}).status_code == 400
    post(app, {"messages": [1]})
    assert [json.loads(each["request"]) for each in eventually(lambda: records(folder))] == [{"messages": [1]}]


def test_no_more_is_recorded_in_an_hour_than_allowed_and_the_rest_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(recorder.PER_HOUR_VARIABLE, "60")
    now, writer = [0.0], Writer(folder)
    app = Recorder(APP, writer, lambda: now[0])
    for second in range(0, 1800, 20):
        now[0] = float(second)
        post(app)
    eventually(lambda: writer.counts["recorded"] + writer.counts["rate"] == 90)
    assert 29 <= writer.counts["recorded"] <= 31
    eventually(lambda: written_counts(folder).get("seen") == 90)


def test_a_large_request_passes_and_is_dropped(folder: Path) -> None:
    writer = Writer(folder)
    assert post(Recorder(APP, writer), {"text": "x" * recorder.MAX_BYTES}).json() == REPLY
    assert writer.counts["size"] == 1


def test_a_monitor_that_is_gone_leaves_no_more_than_the_limit_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_WAITING_FILES", 3)
    writer = Writer(folder)
    app = Recorder(APP, writer)
    for _ in range(5):
        post(app)
    eventually(lambda: writer.counts["full"] == 2)
    assert len(records(folder)) == 3


def test_the_file_alone_is_a_module_that_needs_only_python(folder: Path) -> None:
    """As in an image without anything of ours: no package is found but Python's own."""
    subprocess.run([sys.executable, recorder.__file__, str(folder)], check=True)
    code = f"import {recorder.MODULE} as found; print(found.Recorder.__name__)"
    bare = subprocess.run([sys.executable, "-S", "-c", code], cwd=folder, env={}, check=True, capture_output=True, text=True)
    assert bare.stdout == "Recorder\n"


def test_vllm_takes_classes_as_middleware_by_their_import_path() -> None:
    """The contract of `--middleware`, read from the vLLM that is installed: `module.Name`, added with the application alone."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    source = Path(found.submodule_search_locations[0], "entrypoints/serve/middleware/register.py").read_text()
    assert 'middleware.rsplit(".", 1)' in source
    assert "app.add_middleware(imported)" in source
