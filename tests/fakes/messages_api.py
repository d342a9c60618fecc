"""A Messages API that costs nothing: real HTTP, scripted faults, and a count of every call that a provider would bill."""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Fault:
    """What one call meets instead of an answer. ``cut`` drops the connection; ``seconds`` answers late."""

    status: int = 200
    kind: str = "api_error"
    message: str = "fault of the test"
    retry_after: float | None = None
    cut: bool = False
    seconds: float = 0.0


RATE_LIMITED = Fault(429, "rate_limit_error", "slow down", retry_after=0.05)
OVERLOADED = Fault(529, "overloaded_error", "overloaded")
BROKEN = Fault(500)
CUT = Fault(cut=True)
NO_CREDIT = Fault(400, "invalid_request_error", "Your credit balance is too low to access the API.")
BAD_KEY = Fault(401, "authentication_error", "invalid x-api-key")
NO_SUCH_MODEL = Fault(404, "not_found_error", "model: nobody")


def role_of(body: dict[str, Any]) -> str:
    """Whose turn a generation call asks for, or the reader's opinion."""
    if "You read a chat" in body["system"][0]["text"]:
        return "reader"
    return "agent" if "You play the agent" in body["system"][0]["text"] else "customer"


def plain_answer(body: dict[str, Any]) -> str:
    """A sentence that any check accepts; a customer's says what was decided, and the reader listens."""
    asked = body["messages"][-1]["content"]
    if role_of(body) == "reader":
        last = asked.partition("</conversation>")[0].splitlines()[-1]
        return next((number for number, option in re.findall(r"^(\d+)\. (.*)$", asked, re.MULTILINE) if option in last), "0")
    if role_of(body) == "agent":
        return "I see, thank you."
    decided = re.search(r"<decision>\n(.*)\n</decision>", asked)
    return f"That is fine with me. {decided.group(1)}" if decided else "That is fine with me."


@dataclass
class MessagesApi:
    """Set ``faults`` (used up one per call), ``after`` (paid calls → fault for good) or ``answer`` before or while calls come."""

    answer: Answer = plain_answer
    input_tokens: int = 600
    output_tokens: int = 120
    seconds: float = 0.0
    stop_reason: str = "end_turn"
    faults: deque[Fault] = field(default_factory=deque)
    after: tuple[int, Fault] | None = None
    calls: int = 0
    paid: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, body: dict[str, Any], key: str) -> Fault | None:
        """Counts a call; gives the fault that it meets."""
        with self._lock:
            self.calls += 1
            self.bodies.append(body)
            self.keys.add(key)
            if self.faults:
                fault = self.faults.popleft()
                if fault.status != 200 or fault.cut:
                    return fault
                self.paid += 1
                return fault
            if self.after is not None and self.paid >= self.after[0]:
                return self.after[1]
            self.paid += 1
            return None

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a call is answered."""
        return {
            "id": f"msg_{self.calls}", "type": "message", "role": "assistant", "model": body["model"],
            "content": [{"type": "text", "text": self.answer(body)}], "stop_reason": self.stop_reason, "stop_sequence": None,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens,
                      "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        }  # fmt: skip


@contextmanager
def messages_api(api: MessagesApi | None = None) -> Iterator[MessagesApi]:
    """Serves until the end of the block; ``api.url`` is the base URL."""
    api = api or MessagesApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()


def _handler(api: MessagesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/messages":
                self._send(404, {"type": "error", "error": {"type": "not_found_error", "message": self.path}})
                return
            fault = api.admit(body, self.headers.get("x-api-key", ""))
            if fault is not None and fault.cut:
                self.close_connection = True
                self.connection.close()
                return
            time.sleep(api.seconds + (fault.seconds if fault else 0.0))
            if fault is not None and fault.status != 200:
                headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
                self._send(fault.status, {"type": "error", "error": {"type": fault.kind, "message": fault.message}}, headers)
                return
            self._send(200, api.reply(body))

        def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
