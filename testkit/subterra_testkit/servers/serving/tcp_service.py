"""A Service as clients see it: kube-proxy sends new connections to its endpoints, and open ones stay where they are."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

_CHUNK = 65536


class TcpService:
    """Forwards connections to one of the local ports in `endpoints`."""

    def __init__(self, endpoints: Sequence[int], seed: int = 0) -> None:
        self.endpoints = list(endpoints)
        self.connections = Counter[int]()
        """How many connections each endpoint was sent."""
        self.asked: dict[int, list[float]] = {}
        """When each endpoint was sent something, by the monotonic clock."""
        self.answered: dict[int, list[float]] = {}
        self._random = random.Random(seed)
        self._open = set[asyncio.Task[None]]()
        """Connections: asyncio itself forgets one, and ends it without a word, that waits for one side when the other has gone."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its URL while it runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=256)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for connection in [*self._open]:
                connection.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def move(self, *endpoints: int) -> float:
        """Sends what connects from now on to these endpoints; returns the time."""
        self.endpoints = list(endpoints)
        return time.monotonic()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connected(reader, writer))
        self._open.add(connection)
        connection.add_done_callback(self._open.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._random.choice(self.endpoints)
        self.connections[port] += 1
        try:
            to_pod = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()  # as the kernel answers where no pod listens
            return
        asked, answered = self.asked.setdefault(port, []), self.answered.setdefault(port, [])
        with contextlib.suppress(OSError):
            await asyncio.gather(_forward(reader, to_pod[1], asked), _forward(to_pod[0], writer, answered))
        for each in (writer, to_pod[1]):
            each.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, times: list[float]) -> None:
    """Copies one direction to its end, which the other side sees."""
    try:
        while chunk := await reader.read(_CHUNK):
            times.append(time.monotonic())
            writer.write(chunk)
            await writer.drain()
    except OSError:
        writer.transport.abort()
        raise
    with contextlib.suppress(OSError):
        writer.write_eof()
