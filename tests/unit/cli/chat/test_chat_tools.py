"""`subterra chat` with an agent that calls tools: a Python file, an endpoint or the person runs them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subterra_cli.chat import chat_session
from subterra_cli.chat.chat_session import ChatSession, ServerFailedError
from subterra_cli.chat.tool_runners import tool_runner
from subterra_cli.errors import CommandError
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.tools import function_schemas
from subterra_testkit.repository import ROOT

ORDERS = load_spec(ROOT / "examples/orders/procedure.yaml")
FILE = ROOT / "examples/orders/tools.py"
CALL = {"id": "call_x", "type": "function", "function": {"name": "find_order", "arguments": '{"order_number": "404404"}'}}


def answers(*messages: dict[str, Any], seen: list[dict[str, Any]]) -> Callable[..., httpx.Response]:
    """Stands in for the agent's server: one message per request, whose bodies it keeps."""
    left: Iterator[dict[str, Any]] = iter(messages)

    def post(url: str, *, json: dict[str, Any], headers: dict[str, str], timeout: float) -> httpx.Response:
        seen.append(json)
        return httpx.Response(200, json={"choices": [{"message": next(left)}]})

    return post


def test_a_turn_goes_on_until_the_agent_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    called: list[str] = []
    said = {"content": "One moment.\n", "tool_calls": [CALL]}
    monkeypatch.setattr(chat_session.httpx, "post", answers(said, {"content": "There is no such order."}, seen=seen))
    runner = tool_runner(ORDERS, str(FILE), None)
    session = ChatSession("http://x", "orders", tools=function_schemas(ORDERS), run_tool=runner, on_call=called.append)
    assert session.say("Where is 404404?") == "One moment. There is no such order."
    assert [each["role"] for each in seen[1]["messages"]] == ["user", "assistant", "tool"]
    assert seen[1]["messages"][2] == {"role": "tool", "tool_call_id": "call_x", "content": '{"error": "not_found"}'}
    assert seen[0]["tools"] == function_schemas(ORDERS)
    assert called == ['find_order {"order_number": "404404"} → {"error": "not_found"}']
    assert [each["role"] for each in session.messages] == ["user", "assistant", "tool", "assistant"]


def test_an_agent_that_only_calls_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = {"content": None, "tool_calls": [CALL]}
    monkeypatch.setattr(chat_session.httpx, "post", answers(*[stuck] * 50, seen=[]))
    session = ChatSession("http://x", "orders", run_tool=tool_runner(ORDERS, str(FILE), None))
    with pytest.raises(ServerFailedError, match="calls tools without end: 16 calls in one turn"):
        session.say("Hi")
    assert session.messages == []


def test_the_examples_tools_answer_every_call_of_the_procedure() -> None:
    run = tool_runner(ORDERS, str(FILE), None)
    assert set(run("find_order", {"order_number": "482193"})) == {"state", "day", "total"}
    assert run("find_order", {"order_number": "504504"}) == {"error": "timeout"}
    assert run("refund_order", {"order_number": "482193", "amount": 88}) == {}
    assert run("refund_order", {"order_number": "482199", "amount": 88}) == {"error": "too_late"}


def test_a_function_that_raises_returns_its_error() -> None:
    run = tool_runner(ORDERS, str(FILE), None)
    assert run("find_order", {"nr": "1"})["error"].startswith("TypeError: ")
    assert run("delete", {}) == {"error": "unknown tool delete"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("find_order = 1\n", "has no function for find_order, refund_order"),
        ("1/0\n", "ZeroDivisionError"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_run_the_tools_is_refused_before_the_chat(tmp_path: Path, text: str | None, problem: str) -> None:
    file = tmp_path / "tools.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CommandError, match=problem):
        tool_runner(ORDERS, str(file), None)


def test_an_endpoint_gets_name_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def post(url: str, *, json: Any, timeout: float) -> httpx.Response:
        seen.append((url, json))
        return httpx.Response(200, json={"state": "on its way"}) if len(seen) == 1 else httpx.Response(503)

    monkeypatch.setattr(httpx, "post", post)
    run = tool_runner(ORDERS, "http://tools:8080/run", None)
    assert run("find_order", {"order_number": "1"}) == {"state": "on its way"}
    assert seen == [("http://tools:8080/run", {"name": "find_order", "arguments": {"order_number": "1"}})]
    assert run("find_order", {"order_number": "1"}) == {"error": "the endpoint answered 503"}


def test_the_person_is_asked_until_the_result_is_an_object() -> None:
    questions: list[str] = []
    typed = iter(["sent", "[1]", '{"state": "sent"}'])

    def ask(question: str) -> str:
        questions.append(question)
        return next(typed)

    assert tool_runner(ORDERS, None, ask)("find_order", {"order_number": "1"}) == {"state": "sent"}
    assert questions[0].startswith(f"The agent calls find_order {json.dumps({'order_number': '1'})}.")
    assert len(questions) == 3


def test_without_anybody_to_run_the_tools_there_is_no_chat() -> None:
    with pytest.raises(CommandError, match=r"pass --tools FILE\.py or --tools URL"):
        tool_runner(ORDERS, None, None)
