"""The route in vLLM: what it takes, and what it answers when the reader is slow, away or overrun."""

import asyncio
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.environment import STATE_SOCKET_VARIABLE
from subterra_jobs.evaluate.analysis.served.state import state_route
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState
from subterra_jobs.evaluate.analysis.served.state.state_route import MAX_BYTES, ROUTE, UNKNOWN, Message, StateRoute

POST = {"type": "http", "method": "POST", "path": ROUTE}


async def vllm(scope: Message, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})


async def ask(route: StateRoute, scope: Message, *parts: bytes) -> tuple[int, Any]:
    """Status and content of the answer."""
    waiting, sent = [*parts], list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": waiting.pop(0) if waiting else b"", "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    await route(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]) if len(sent) > 1 else None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/v1/conversation", f"{ROUTE}/"])
def test_other_requests_go_straight_to_vllm(path: str) -> None:
    assert asyncio.run(ask(StateRoute(vllm, "no.sock"), POST | {"path": path}))[0] == 299
    assert asyncio.run(ask(StateRoute(vllm, "no.sock"), POST | {"type": "lifespan"}))[0] == 299


def test_a_reader_that_does_not_run_is_an_answer() -> None:
    status, content = asyncio.run(ask(StateRoute(vllm, "no.sock"), POST, b"{}"))
    assert (status, content["node"], content["reason"]) == (200, None, "NotReady")


def test_other_methods_and_large_requests_are_refused() -> None:
    route = StateRoute(vllm, "no.sock")
    assert asyncio.run(ask(route, POST | {"method": "GET"}))[0] == 405
    status, content = asyncio.run(ask(route, POST, b"x" * MAX_BYTES, b"x"))
    assert (status, "bytes" in content["error"]["message"]) == (413, True)


def test_a_reader_that_hangs_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_route, "LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(state_route, "MAX_REQUESTS", 2)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.sleep(5)

    async def ask_all() -> list[tuple[int, Any]]:
        server = await asyncio.start_unix_server(hang, tmp_path / "sock")
        route = StateRoute(vllm, str(tmp_path / "sock"))
        answers = await asyncio.gather(*(ask(route, POST, b"{}") for _ in range(3)))
        answers.append(await ask(route, POST, b"{}"))
        server.close()
        return answers

    answers = asyncio.run(ask_all())
    assert [(status, content["reason"]) for status, content in answers] == [(200, "Busy")] * 4
    assert "2 other requests" in answers[2][1]["message"]


def test_the_file_is_complete_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images with vLLM have nothing of ours."""
    monkeypatch.setattr(sys, "argv", ["state_route", str(tmp_path)])
    runpy.run_path(str(state_route.__file__), run_name="__main__")
    copied = tmp_path / f"{state_route.MODULE}.py"
    assert "subterra_jobs" not in "".join(line for line in copied.read_text().splitlines() if "import" in line)
    assert runpy.run_path(str(copied))["StateRoute"]


def test_names_and_fields_of_route_and_reader_agree() -> None:
    """The route cannot import them, since it is alone in its image."""
    assert state_route.SOCKET_VARIABLE == STATE_SOCKET_VARIABLE
    assert ConversationState().to_json() == {**UNKNOWN, "reason": None, "message": None}
