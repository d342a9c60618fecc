"""A session with a served agent, and the way to its Service."""

import os
from pathlib import Path

import pytest

from subterra_cli.chat.chat_session import ChatSession, ServerFailedError
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, port_forward
from subterra_testkit.procedures import branch, shop
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, Fault, fake_llm_api

SHOP = shop(branch("sell", "Tea, please."))


def kubectl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program called kubectl on PATH."""
    (folder / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_reply_that_takes_too_long_is_a_server_that_failed() -> None:
    with fake_llm_api(FakeLLMApi(seconds=30)) as api, pytest.raises(ServerFailedError, match=r"did not reply within 0.1 s"):
        ChatSession(api.url, "shop", timeout=0.1).greet()


def test_a_failed_turn_is_not_part_of_the_conversation() -> None:
    with fake_llm_api(FakeLLMApi(answer=lambda body: "Hello.")) as api:
        session = ChatSession(api.url, "shop")
        session.greet()
        api.faults.append(Fault(500))
        with pytest.raises(ServerFailedError):
            session.say("One")
        session.say("Two")
    assert [message["content"] for message in session.messages] == ["Hello.", "Two", "Hello."]


def test_an_answer_that_is_no_chat_completion_is_named(tmp_path: Path) -> None:
    with fake_llm_api(FakeLLMApi(answer=lambda body: "Hello.")) as api:
        session = ChatSession(f"{api.url}/v1/messages?", "shop")
        with pytest.raises(ServerFailedError, match="is not a chat completions API; it sent"):
            session.greet()


def test_a_warning_of_kubectl_does_not_hide_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_chat_server(SHOP) as (url, _):
        port = url.rpartition(":")[2]
        kubectl(tmp_path, f"echo W0101 old config; echo 'Forwarding from 127.0.0.1:{port} -> 8000'; exec sleep 60", monkeypatch)
        with port_forward(ClusterTarget("demo"), "shop", 8000) as forwarded:
            assert ChatSession(forwarded, "shop").greet() == "What do you want?"


def test_what_kubectl_says_last_is_why_a_service_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl(tmp_path, "echo trying >&2; echo 'Error: services \"shop\" not found' >&2; exit 1", monkeypatch)
    with (
        pytest.raises(ClusterAccessError, match='service shop cannot be reached: Error: services "shop" not found'),
        port_forward(ClusterTarget("demo"), "shop", 8000),
    ):
        pass


def test_a_port_forward_that_ends_at_once_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_chat_server(SHOP) as (url, _):
        pass
    kubectl(tmp_path, f"echo 'Forwarding from {url.removeprefix('http://')} -> 8000'", monkeypatch)
    with (
        pytest.raises(ClusterAccessError, match="kubectl port-forward ended"),
        port_forward(ClusterTarget("demo"), "shop", 8000, timeout=300),
    ):
        pass
