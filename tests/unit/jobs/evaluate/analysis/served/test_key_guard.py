"""The guard in front of vLLM: what it lets through, and what it says to others."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from subterra_jobs.evaluate.analysis.served.key_guard import KEY_VARIABLE, MODULE, OPEN, Guard, Message, key_problem, main

KEY = "sk-travel-1"


class Server:
    """An ASGI application that notes what reaches it and answers 200."""

    def __init__(self) -> None:
        self.scopes: list[Message] = []

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(path: str, *headers: tuple[str, str], kind: str = "http") -> tuple[list[Message], list[Message]]:
    """What a request is answered, and what of it reached the server."""
    server, sent = Server(), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    asyncio.run(Guard(server)({"type": kind, "path": path, "headers": raw}, receive, send))
    return sent, server.scopes


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


BEARER = ("Authorization", f"Bearer {KEY}")


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/invocations", "/tokenize", "/", "/health/", "/metrics/x"]
)
def test_every_path_demands_the_key(path: str) -> None:
    for headers in ((), (("Authorization", "Bearer wrong"),), (("Authorization", KEY),), (("x-api-key", "wrong"),)):
        sent, reached = ask(path, *headers)
        assert (sent[0]["status"], reached) == (401, [])
    assert ask(path, BEARER)[0][0]["status"] == 200


@pytest.mark.parametrize("path", OPEN)
def test_probes_hooks_and_prometheus_need_none(path: str) -> None:
    assert ask(path)[0][0]["status"] == 200


def test_clients_of_anthropics_api_may_send_it_in_their_own_header() -> None:
    _, [scope] = ask("/v1/messages", ("x-api-key", KEY))
    assert (b"authorization", f"Bearer {KEY}".encode()) in scope["headers"], "vLLM, which checks too, looks there only"


def test_the_refusal_says_what_to_send_in_the_form_of_the_api() -> None:
    sent, _ = ask("/v1/chat/completions")
    error = json.loads(sent[1]["body"])["error"]
    assert "Authorization: Bearer KEY" in error["message"]
    assert KEY not in str(sent)


def test_a_websocket_without_the_key_is_closed_and_other_messages_pass() -> None:
    sent, reached = ask("/v1/realtime", kind="websocket")
    assert ([message["type"] for message in sent], reached) == (["websocket.close"], [])
    assert ask("", kind="lifespan")[1]


@pytest.mark.parametrize("key", ["", " ", f"{KEY}\n", "two words", "schlüssel", "k" * 5000])
def test_no_server_starts_with_a_key_that_nobody_could_send(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_problem(key)
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ValueError, match=KEY_VARIABLE):
        Guard(Server())


def test_without_the_variable_no_server_starts_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(KeyError):
        Guard(Server())


def test_the_init_container_names_secret_and_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f"{KEY}\n")
    assert main(str(tmp_path), "travel-key (key apiKey)") == 10
    said = capsys.readouterr().err
    assert said.startswith("the API key in Secret travel-key (key apiKey) begins or ends with a space or a line break")
    assert KEY not in said
    assert list(tmp_path.iterdir()) == []


def test_the_file_that_it_provides_works_alone(tmp_path: Path) -> None:
    assert main(str(tmp_path), "travel-key") == 0
    spec = importlib.util.spec_from_file_location(MODULE, tmp_path / f"{MODULE}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.Guard(Server())
