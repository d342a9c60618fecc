"""Answers which state a conversation has reached, on a Unix socket: `python -m subterra_jobs.evaluate.analysis.served.state`.

It runs next to vLLM, whose middleware passes requests on, and takes little from it: one conversation is read at a time, few wait,
and none for long. What cannot be read in time is unknown. A request is its body; the response is a line with the status, and JSON.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.environment import (
    MODEL_PATH_VARIABLE,
    MODELS_DIRECTORY,
    MODELS_VARIABLE,
    STATE_SOCKET_VARIABLE,
    STORE_MOUNT,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.served.state import state_route
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState, StateReader
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import make_labeller

log = logging.getLogger("subterra")
NICENESS = 10
LIMIT_SECONDS = state_route.LIMIT_SECONDS - 1
"""How long a request may wait and be read, so that an answer about it still gets through."""
MAX_WAITING = 8
"""Requests that are read or wait for it."""
INVALID = "send {\"messages\": […]} with the conversation's messages as for /v1/chat/completions, the agent's replies included"
WARM_UP = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
Answer = tuple[int, dict[str, Any]]


class StateServer:
    """Reads conversations one at a time, once the reader is made."""

    def __init__(self, make: Callable[[], StateReader], limit_seconds: float = LIMIT_SECONDS) -> None:
        self._make, self._limit = make, limit_seconds
        self._worker, self._waiting = ThreadPoolExecutor(1), 0
        self._reader: StateReader | None = None
        self._not_read = ConversationState(reason="NotReady", message="the reader of states is starting; ask again in a minute")

    async def load(self) -> None:
        """Makes the reader. If that fails, it is what every answer says: a sidecar that ends would take the pod out of service."""
        try:
            self._reader = await asyncio.get_running_loop().run_in_executor(self._worker, self._made)
        except Exception as error:
            log.exception("no state can be read")
            text = f"conversations of this model cannot be read: {error}"
            self._not_read = ConversationState(reason="Unreadable", message=text)

    async def answer(self, body: bytes) -> Answer:
        """HTTP status and content for a request's body."""
        messages = _messages(body)
        if messages is None:
            return _invalid()
        if self._reader is None:
            return 200, self._not_read.to_json()
        if self._waiting >= MAX_WAITING:
            return _busy(f"{MAX_WAITING} other conversations are being read")
        self._waiting += 1
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._worker, self._reader.read, messages)
            return 200, (await asyncio.wait_for(reading, self._limit)).to_json()
        except TimeoutError:
            return _busy(f"it was not read within {self._limit:g} s")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            log.warning("a request could not be read: %s", type(error).__name__)  # its words stay out of the log
            return _invalid()
        finally:
            self._waiting -= 1

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handles one connection, which is one request."""
        try:
            status, content = await self.answer(await reader.read())
            writer.write(f"{status}\n{json.dumps(content)}".encode())  # in ASCII, which holds half a character too
            await writer.drain()
        except ConnectionError:  # nobody waits for the answer any more
            pass
        finally:
            writer.close()

    def _made(self) -> StateReader:
        reader = self._make()
        reader.read(WARM_UP)  # the encoder loads its libraries at its first use
        return reader


def _messages(body: bytes) -> list[dict[str, Any]] | None:
    """The messages in a request; `None` if there are none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    messages = content.get("messages") if isinstance(content, dict) else None
    return messages if isinstance(messages, list) and all(isinstance(message, dict) for message in messages) else None


def _busy(what: str) -> Answer:
    return 200, ConversationState(reason="Busy", message=f"{what}; ask again later").to_json()


def _invalid() -> Answer:
    return 400, {"error": {"message": INVALID, "type": "invalid_request_error", "param": "messages", "code": None}}


def make_reader(model: Path, models: Path) -> StateReader:
    """The reader of the served model's procedure. Raises InvalidInputError, OSError or ValueError."""
    graph = Graph(ProcedureSpec.model_validate(json.loads((model / PROCEDURE_FILE).read_text())))
    return StateReader(graph, make_labeller(graph, models))


async def serve(server: StateServer, socket: Path) -> None:
    """Answers at the socket until it is cancelled; while the reader is made, that it is not ready."""
    async with await asyncio.start_unix_server(server.handle, socket):
        await server.load()
        await asyncio.Event().wait()


def main(variables: Mapping[str, str] = os.environ) -> None:
    """Runs until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    os.nice(NICENESS)
    model = Path(STORE_MOUNT) / variables.get(MODEL_PATH_VARIABLE, "")
    models = Path(variables.get(MODELS_VARIABLE) or MODELS_DIRECTORY)
    socket = Path(variables[STATE_SOCKET_VARIABLE])
    socket.unlink(missing_ok=True)  # of a container that has ended
    asyncio.run(serve(StateServer(lambda: make_reader(model, models)), socket))
