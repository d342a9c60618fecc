"""Fake OpenAI-compatible server that follows a procedure by matching the customer's lines, optionally with damaged replies.

Run as `python -m subterra_testkit.servers.fake_chat_server --procedure FILE --port 8000 [--damage forgetful]`. It shares no
code with the evaluation except the graph, so its replies are an independent reading of the procedure.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Step
from subterra_core.procedure.template import render, split
from subterra_testkit.servers.local_server import ManyClientsServer, QuietHandler, in_background

Chat = list[dict[str, str]]
Damage = Callable[[str, Chat], str | None]

APOLOGY = "I am sorry, I cannot help with that."
DAMAGES: dict[str, Damage] = {
    "none": lambda reply, chat: reply,
    # Hands over to a human as soon as an offer is due: a wrong terminal.
    "hasty": lambda reply, chat: "Of course. I am connecting you to a human colleague now." if "Would you like" in reply else reply,
    # Books without asking for confirmation: a skipped node.
    "bold": lambda reply, chat: "Your trip to Rome is booked. Have a wonderful time!" if reply.startswith("To confirm") else reply,
    "forgetful": lambda reply, chat: re.sub(r"(choice!|hotel in) .+?(,| for)", r"\1 Atlantis\2", reply),
    "garbled": lambda reply, chat: "the the the trip trip is is",
    "hostile": lambda reply, chat: "<script>alert(1)</script>",
    # Cannot answer conversations that began with a greeting by the customer.
    "broken": lambda reply, chat: None if chat[0]["role"] == "user" else reply,
}


class Oracle:
    """Replies as the procedure requires, from the conversation alone; repeats what it said where it does not understand.

    It understands the procedure's examples, and the other lines of `meanings`, which has an example for each.
    """

    def __init__(self, spec: ProcedureSpec, meanings: Mapping[str, str] | None = None) -> None:
        self.graph, self._meanings = Graph(spec), meanings or {}

    def reply(self, chat: Chat) -> str:
        """The agent's next turn."""
        lines = [message["content"] for message in chat if message["role"] == "user"]
        if lines and chat[0]["role"] == "user" and self.graph.nodes[self.graph.spec.start].role == "agent":
            lines = lines[1:]  # the opener
        values: dict[str, str] = {}
        step, said = self._speak(self.graph.begin())
        following: Step | None = step
        for line in lines:
            following = self._follow(step, self._meanings.get(line, line), values)
            step, said = (step, said) if following is None else self._speak(following)
        apology = [] if following is not None else [APOLOGY]
        return " ".join([*apology, *(render(self.graph.nodes[node].examples[0], values) for node in said)])

    def _speak(self, step: Step) -> tuple[Step, list[str]]:
        """Follows the agent's nodes up to the customer's next one."""
        said = []
        while self.graph.nodes[step.node].role == "agent":
            said.append(step.node)
            edges = self.graph.open_edges(step)
            if not edges:
                break
            step = self.graph.take(step, edges[0])
        return step, said

    def _follow(self, step: Step, line: str, values: dict[str, str]) -> Step | None:
        """Follows the edge whose example matches the line, of several the one with the most fixed text; `None` if none does."""
        node, matches = self.graph.nodes[step.node], []
        for edge in self.graph.open_edges(step):
            for text in edge.examples or node.examples:
                parts = split(text)
                pattern = "(.+?)".join(map(re.escape, parts[::2]))
                if match := re.fullmatch(pattern, line):
                    matches.append((sum(map(len, parts[::2])), edge, dict(zip(parts[1::2], match.groups(), strict=True))))
        if not matches:
            return None
        _, edge, slots = max(matches, key=lambda match: match[0])
        values |= slots
        return self.graph.take(step, edge)


def _handler(oracle: Oracle, damage: Damage, requests: list[dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as vLLM keeps them
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            answers: dict[str, dict[str, Any]] = {"/v1/models": {"data": [{"id": "candidate"}]}, "/version": {"version": "fake"}}
            self._json(200 if self.path in answers else 404, answers.get(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.body())
            requests.append(body)
            if not body["messages"]:  # as vLLM does
                self._json(400, {"error": {"message": "list index out of range"}})
                return
            chat = [message for message in body["messages"] if message["role"] != "system"]
            reply = damage(oracle.reply(chat), chat or [{"role": "system", "content": ""}])
            if reply is None:
                self._json(400, {"error": {"message": "this conversation is too long"}})
                return
            words = sum(len(message["content"].split()) for message in chat)
            choice = {"message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
            usage = {"prompt_tokens": words, "completion_tokens": len(reply.split())}
            self._json(200, {"choices": [choice], "usage": usage})

        def _json(self, status: int, content: dict[str, Any]) -> None:
            self.answer(status, json.dumps(content).encode())

    return Handler


@contextmanager
def fake_chat_server(
    spec: ProcedureSpec, damage: str | Damage = "none", meanings: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """URL of a running server, and the requests that it received; `meanings` as in `Oracle`."""
    requests: list[dict[str, Any]] = []
    harm = DAMAGES[damage] if isinstance(damage, str) else damage
    server = ManyClientsServer(("127.0.0.1", 0), _handler(Oracle(spec, meanings), harm, requests))
    with in_background(server) as url:
        yield url, requests


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description="A chat server that follows a procedure, optionally with damaged replies.")
    parser.add_argument("--procedure", required=True, type=Path)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--damage", choices=sorted(DAMAGES), default="none")
    arguments = parser.parse_args()
    spec = ProcedureSpec.model_validate(yaml.safe_load(arguments.procedure.read_text())["spec"])
    server = ManyClientsServer(("127.0.0.1", arguments.port), _handler(Oracle(spec), DAMAGES[arguments.damage], []))
    sys.stdout.write(f"serving on port {arguments.port}\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
