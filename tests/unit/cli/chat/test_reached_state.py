"""Which node a conversation has reached, as `subterra chat` says it at its end."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from subterra_cli.chat.agent_key import ApiKey
from subterra_cli.chat.chat_session import ChatSession
from subterra_cli.chat.reached_state import ROUTE, reached_state
from subterra_cli.chat.served_agent import ServedAgent
from subterra_jobs.evaluate.analysis.served.state import state_route
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState

SAID = [{"role": "assistant", "content": "A colleague will call you."}]


@contextmanager
def server(content: Any, status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """URL of a server with one answer, and what it was asked."""
    asked = list[Any]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body["messages"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (ConversationState("human", "escalation", True), "It has reached node human, outcome escalation."),
        (ConversationState("ask", None, False), "It has reached node ask, outcome open."),
        (
            ConversationState(reason="NotReady", message="the reader starts"),
            "Which node the conversation has reached is not known: the reader starts (NotReady)",
        ),
    ],
)
def test_node_and_outcome_are_said_or_why_they_are_not_known(state: ConversationState, line: str) -> None:
    with server(state.to_json()) as (url, asked):
        assert reached_state(ChatSession(url, "shop", SAID, api_key=ApiKey("sk-1", "a file"), context="plan: Pro")) == line
    assert asked == [(ROUTE, "Bearer sk-1", [{"role": "system", "content": "plan: Pro"}, *SAID])]


@pytest.mark.parametrize(("content", "status"), [({}, 404), ([], 200), ({"node": "human"}, 200)])
def test_a_server_that_answers_otherwise_costs_only_the_line(content: Any, status: int) -> None:
    with server(content, status) as (url, _):
        assert "is not known" in reached_state(ChatSession(url, "shop", SAID))
    assert "is not known" in reached_state(ChatSession(url, "shop", SAID)), "a server that is gone"


def test_only_agents_with_the_field_are_asked() -> None:
    def agent(serving: dict[str, Any]) -> ServedAgent:
        return ServedAgent({"metadata": {"name": "shop"}, "spec": {"serving": serving}}, None, None, {})

    assert agent({"conversationState": {}}).tells_state
    assert not agent({}).tells_state
    assert ROUTE == state_route.ROUTE
