"""The reader of states at its socket: what it answers, also when it cannot read."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState, StateReader
from subterra_jobs.evaluate.analysis.served.state.state_route import StateRoute
from subterra_jobs.evaluate.analysis.served.state.state_server import MAX_WAITING, StateServer, make_reader, serve

BODY = b'{"messages": [{"role": "assistant", "content": "Hello"}]}'


class Reader(StateReader):
    """Finds the same state in every conversation, once `gate` is open."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate, self.reads = gate, 0

    def read(self, messages: Any) -> ConversationState:
        self.reads += 1
        if self.gate is not None and self.reads > 1:  # the first is the warm-up
            self.gate.wait(10)
        return ConversationState(messages[-1]["content"], None, False)


class Noticed(StateServer):
    """Tells when its reader is made."""

    def __init__(self, make: Callable[[], StateReader]) -> None:
        super().__init__(make)
        self.made = asyncio.Event()

    async def load(self) -> None:
        await super().load()
        self.made.set()


async def loaded(make: Callable[[], StateReader], limit: float = 5.0) -> StateServer:
    server = StateServer(make, limit)
    await server.load()
    return server


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_messages_are_answered_with_their_state() -> None:
    async def ask() -> Any:
        return await (await loaded(Reader)).answer(BODY)

    status, content = run(ask())
    assert (status, content["node"], content["reason"]) == (200, "Hello", None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b"{}",
        b'{"messages": 1}',
        b'{"messages": ["Hi"]}',
        b'{"messages": [{"content": "Hi"}]}',
        b'{"messages": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_conversation_is_refused_with_what_to_send(body: bytes) -> None:
    from subterra_core.procedure.graph import Graph
    from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
    from subterra_testkit.runs.tiny_model import TRIP

    async def ask() -> Any:
        graph = Graph(TRIP)
        return await (await loaded(lambda: StateReader(graph, RuleLabeller(graph)))).answer(body)

    status, content = run(ask())
    assert status == 400
    assert "messages" in content["error"]["message"]


def test_until_the_reader_is_made_it_is_not_ready() -> None:
    assert run(StateServer(Reader).answer(BODY))[1]["reason"] == "NotReady"


def test_a_procedure_that_cannot_be_labelled_is_what_every_answer_says() -> None:
    def make() -> StateReader:
        raise InvalidInputError("node greet has no examples")

    async def ask() -> Any:
        return await (await loaded(make)).answer(BODY)

    content = run(ask())[1]
    assert (content["node"], content["reason"]) == (None, "Unreadable")
    assert "node greet has no examples" in content["message"]


def test_one_conversation_is_read_at_a_time_few_wait_and_none_for_long() -> None:
    gate = threading.Event()
    reader = Reader(gate)

    async def ask() -> list[Any]:
        server = await loaded(lambda: reader, 0.2)
        answers = await asyncio.gather(*(server.answer(BODY) for _ in range(MAX_WAITING + 3)))
        gate.set()
        return answers

    contents = [content for _, content in run(ask())]
    assert {content["reason"] for content in contents} == {"Busy"}
    assert sum("other conversations" in content["message"] for content in contents) == 3
    assert reader.reads == 2, "those that waited too long are never read"


@pytest.mark.parametrize("node", ["Hello", "Gr\u00fc\u00df Gott", "half of \ud83d"])
def test_route_and_server_understand_each_other(tmp_path: Path, node: str) -> None:
    body = json.dumps({"messages": [{"role": "assistant", "content": node}]}).encode()
    sent = list[dict[str, Any]]()

    async def ask() -> None:
        socket = tmp_path / "state.sock"
        server = Noticed(Reader)
        serving = asyncio.create_task(serve(server, socket))
        await asyncio.wait_for(server.made.wait(), 10)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(*_: Any) -> None:
            raise AssertionError("it must not reach vLLM")

        await StateRoute(app, str(socket))({"type": "http", "method": "POST", "path": "/v1/conversation/state"}, receive, send)
        serving.cancel()

    run(ask())
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"])["node"] == node


def test_the_procedure_is_the_served_models(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="procedure"):
        make_reader(tmp_path, tmp_path)
