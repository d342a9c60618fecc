"""An HTTP proxy between an operator and the API server. It knows what a request means, and makes it fail as planned.

Plain HTTP comes in, TLS with the administrator's certificate goes out. Every write that took effect is recorded with a label that
means the same in every life, so that a fault can be aimed at "the second status of run travel-1234".
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import aiohttp
import yaml
from aiohttp import web
from tests.faults.process import OperatorProcess
from yarl import URL

from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.labels import MANAGER

HEARTBEAT = "subterra-operator-heartbeat"
REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
WRITES = ("create", "apply", "patch", "status", "delete")
READS = ("discover", "get", "list", "watch")
_PATCHES = {"application/apply-patch+yaml": "apply", "application/merge-patch+json": "patch"}


@dataclass(frozen=True)
class Request:
    """What a request means."""

    verb: str
    kind: str = ""
    name: str = ""

    @property
    def beat(self) -> bool:
        return self.name == HEARTBEAT

    @property
    def upkeep(self) -> bool:
        """Whether it is about who leads: the Lease, and a standby's look at the heartbeat."""
        return self.kind == "leases" or (self.beat and self.verb == "get")

    @property
    def tells(self) -> bool:
        """Whether it is a Kubernetes Event: best effort, under a name of its own each time, and nothing depends on it."""
        return self.kind == "events"

    @property
    def writes(self) -> bool:
        return self.verb in WRITES

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}".strip()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the requests that match: from the ``nth`` on, ``times`` times or, if set, for ``seconds``.

    crash: the write takes effect, the operator dies before it hears so · lose: it takes effect, the connection breaks · answer:
    ``code`` instead of the API server · hang: no answer · cut: a watch ends in the middle of an event · gone: a watch is told to
    list again · mute: a watch stays open and says nothing more · freeze: the operator is stopped; a write arrives when it goes
    on, and the reply to a read is there when it goes on.

    Outages, that is faults for some seconds, concern the Lease too, once they have begun; others are aimed at the operator's work.
    """

    action: Literal["crash", "lose", "answer", "hang", "cut", "gone", "mute", "freeze"]
    verbs: tuple[str, ...] = ()
    kind: str = ""
    name: str = ""
    nth: int = 1
    times: int = 1
    seconds: float = 0.0
    code: int = 500

    @property
    def after(self) -> bool:
        """Whether the write takes effect first; then only writes that did are counted."""
        return self.action in ("crash", "lose")

    def matches(self, request: Request) -> bool:
        """Whether the fault concerns a request."""
        if request.tells and self.kind != request.kind and not self.seconds:
            return False  # what is counted are the writes that matter
        names = self.name in ("", request.name)
        return (not self.verbs or request.verb in self.verbs) and self.kind in ("", request.kind) and names

    def __str__(self) -> str:
        what = f"{self.action} {self.code}" if self.action == "answer" else self.action
        long = f" for {self.seconds:.0f} s" if self.seconds else f" ×{self.times}"
        return f"{what} {'/'.join(self.verbs) or 'all'} {self.kind} {self.name} #{self.nth}{long}"


@dataclass
class Armed:
    """A fault with what became of it."""

    fault: Fault
    seen: int = 0
    fired: int = 0
    since: float = 0.0

    def strikes(self, request: Request, now: float) -> bool:
        """Whether this request is hit; counts it."""
        if not self.fault.matches(request):
            return False
        if request.upkeep and self.fault.kind != "leases":
            return self.fired > 0 and not self.over(now)
        self.seen += 1
        if self.seen < self.fault.nth or (not self.fault.seconds and self.fired >= self.fault.times):
            return False
        if self.fault.seconds and self.fired and now - self.since >= self.fault.seconds:
            return False
        self.since = self.since if self.fired else now
        self.fired += 1
        return True

    def over(self, now: float) -> bool:
        """Whether it has happened and is past."""
        return self.fired > 0 and now - self.since >= self.fault.seconds


@dataclass
class Proxy:
    """One operator's way to the API server."""

    plane: ControlPlane
    operator: OperatorProcess
    plan: Sequence[Fault] = ()

    def __post_init__(self) -> None:
        self.armed = [Armed(fault) for fault in self.plan]
        self.written: list[tuple[Request, int]] = []
        """Every write that took effect, heartbeats and Events aside, and how often that happened before."""
        self.received = 0
        """Writes that the operator sent, whatever became of them; heartbeat and Lease aside."""
        self._apart = False
        self._together = asyncio.Event()
        self.unsigned: list[Request] = []
        """Writes that do not name the operator as their manager: its own client always does, kopf never does."""
        self._counts: Counter[Request] = Counter()
        self._streams: dict[asyncio.Transport, str] = {}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def arm(self, *faults: Fault) -> None:
        """Adds faults."""
        self.armed += [Armed(fault) for fault in faults]

    def part(self) -> None:
        """Cuts the operator off from the API server: from now on nothing passes, in either direction."""
        self._apart = True
        self._together.clear()

    def join(self) -> None:
        """Ends the partition. Connections of before are gone."""
        self._apart = False
        self._together.set()

    def sever(self, kind: str) -> None:
        """Breaks all open watches of a kind."""
        for transport in [stream for stream, watched in self._streams.items() if watched == kind]:
            transport.abort()

    async def start(self) -> None:
        """Listens on a free port and writes the kubeconfig that leads there."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.plane.plane.api.context(), limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [context],
            "clusters": [{"name": "proxy", "cluster": {"server": address}}],
            "users": [{"name": "proxy", "user": {}}],
        }
        self.operator.kubeconfig.write_text(yaml.safe_dump(config))

    async def close(self) -> None:
        """Ends all connections."""
        assert self._session is not None and self._runner is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        request = meaning(incoming, await incoming.read())
        self.received += request.writes and not request.beat and not request.upkeep
        if request.writes and request.verb != "delete" and incoming.query.get("fieldManager") != MANAGER:
            self.unsigned.append(request)
        if self._apart:
            return await self._dropped(incoming)
        struck = self._struck(request, after=False)
        with suppress(aiohttp.ClientError, ConnectionError):
            if struck is not None and (early := await self._before(incoming, request, struck)):
                return early
            if request.verb == "watch":
                return await self._listened(incoming, request.kind, struck)
            return await self._forward(incoming, request, struck)
        return _hung_up(incoming)

    async def _dropped(self, incoming: web.Request) -> web.Response:
        """No answer as long as the partition lasts."""
        await self._together.wait()
        return _hung_up(incoming)

    def _struck(self, request: Request, *, after: bool) -> Fault | None:
        """The fault that hits a request before it is sent on, or after it took effect."""
        now = time.monotonic()
        return next((item.fault for item in self.armed if item.fault.after == after and item.strikes(request, now)), None)

    async def _before(self, incoming: web.Request, request: Request, fault: Fault) -> web.StreamResponse | None:
        """Faults that the API server never hears of, or later."""
        if fault.action == "answer":
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": fault.code,
                "reason": REASONS[fault.code],
                "message": "a planned fault",
            }
            return web.json_response(status, status=fault.code)
        if fault.action == "hang":
            await asyncio.Event().wait()  # until the operator hangs up: then this is cancelled
        if fault.action == "freeze" and request.writes:
            await self.operator.freeze()
        return None

    async def _forward(self, incoming: web.Request, request: Request, struck: Fault | None) -> web.StreamResponse:
        assert self._session is not None
        url, body = URL(self.plane.server + incoming.raw_path, encoded=True), await incoming.read()
        async with self._session.request(incoming.method, url, data=body or None, headers=_headers(incoming)) as answer:
            content = await answer.read()
        if self._apart:
            return await self._dropped(incoming)
        if struck is not None and struck.action == "freeze" and not request.writes:
            self.operator.stop()
        if request.writes and answer.status < 300 and not request.beat and not request.upkeep and not request.tells:
            self.written.append((request, self._counts[request]))
            self._counts[request] += 1
            if fault := self._struck(request, after=True):
                if fault.action == "crash":
                    self.operator.kill()
                return _hung_up(incoming)
        kept = {key: value for key, value in answer.headers.items() if key in ("Content-Type", "Retry-After")}
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _listened(self, incoming: web.Request, kind: str, fault: Fault | None) -> web.StreamResponse:
        """A watch that can be severed."""
        assert isinstance(incoming.transport, asyncio.Transport)
        self._streams[incoming.transport] = kind
        try:
            return await self._watch(incoming, fault)
        finally:
            self._streams.pop(incoming.transport, None)

    async def _watch(self, incoming: web.Request, fault: Fault | None) -> web.StreamResponse:
        assert self._session is not None
        url = URL(self.plane.server + incoming.raw_path, encoded=True)
        async with self._session.get(url, headers=_headers(incoming)) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            await response.prepare(incoming)
            if fault is not None and fault.action == "gone":
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
                await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                return response
            async for line in answer.content.iter_any():
                if self._apart:
                    return await self._dropped(incoming)
                if fault is not None and fault.action == "cut":
                    await response.write(line[: len(line) // 2])
                    return _hung_up(incoming)
                if fault is None or fault.action != "mute":
                    await response.write(line)
        return response


def _headers(incoming: web.Request) -> dict[str, str]:
    return {key: incoming.headers[key] for key in ("Content-Type", "Accept") if key in incoming.headers}


def _hung_up(incoming: web.Request) -> web.Response:
    """No answer: the connection is gone."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def meaning(incoming: web.Request, body: bytes) -> Request:
    """Reads verb, kind and name off a request; only the body of a create has the name, and a discovery's kind is its group."""
    parts = incoming.path.strip("/").split("/")
    root = 2 if parts[0] == "api" else 3
    group, parts = "/".join(parts[1:root]), parts[root:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    kind, name, sub = [*parts, "", "", ""][:3]
    if not kind:
        return Request("discover", group)
    if incoming.method == "GET":
        return Request("get" if name else "watch" if "watch" in incoming.query else "list", kind, name)
    if incoming.method == "POST":
        return Request("create", kind, json.loads(body)["metadata"]["name"])
    if incoming.method == "PUT":
        return Request("update", kind, name)
    if incoming.method == "DELETE":
        return Request("delete", kind, name)
    return Request(sub or _PATCHES.get(incoming.content_type, "patch"), kind, name)
