"""The real kopf against an API server in this process: what the census and the supervisor mend, and that nothing is written."""

import asyncio
import gc
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kopf._core.reactor.inventory import ResourceMemory

from subterra_operator.controller import Controller
from subterra_operator.framework import census as census_module
from subterra_operator.framework import supervisor
from subterra_operator.framework.census import Census
from subterra_operator.framework.supervisor import live_once, supervise
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.labels import MANAGED_BY, MANAGER
from subterra_operator.resources import KINDS, WATCHED, Key, Object
from subterra_operator.settings import Settings

MARKER = "kopf.zalando.org/KopfFinalizerMarker"
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}


class Server:
    """As much of an API server as kopf and the census need."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[str, dict[str, Object]] = defaultdict(dict)
        self.streams: dict[str, list[asyncio.Queue[Object | None]]] = defaultdict(list)
        self.broken: Counter[str] = Counter()
        """How often a path, or ``watch <plural>``, still answers 404."""
        self.writes: list[str] = []

    def put(self, kind: str, name: str, **metadata: Any) -> None:
        """Creates an object; the open watches deliver it."""
        self.version += 1
        own = {"name": name, "namespace": "demo", "uid": f"{kind}-{name}", "resourceVersion": str(self.version)}
        obj = {
            "apiVersion": KINDS[kind].api_version,
            "kind": kind,
            "metadata": {**own, "labels": {MANAGED_BY: MANAGER}, **metadata},
        }
        self.objects[KINDS[kind].plural][name] = obj
        for stream in self.streams[KINDS[kind].plural]:
            stream.put_nowait({"type": "ADDED", "object": obj})

    def lose(self, kind: str, name: str) -> None:
        """Deletes an object while its watch has expired: kopf must list again, and no event tells of the deletion."""
        self.version += 1
        del self.objects[KINDS[kind].plural][name]
        for stream in self.streams[KINDS[kind].plural]:
            stream.put_nowait(GONE)
            stream.put_nowait(None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path}")
        watches = "watch" in request.query
        what = f"watch {plural}" if watches else request.path
        if self.broken[what] > 0:
            self.broken[what] -= 1
            return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
        if watches:
            return await self._stream(request, plural)
        if any(kind.plural == plural for kind in KINDS.values()):
            items = list(self.objects[plural].values())
            return web.json_response({"kind": "List", "items": items, "metadata": {"resourceVersion": str(self.version)}})
        return web.json_response(_discovery(request.path))

    async def _stream(self, request: web.Request, plural: str) -> web.StreamResponse:
        response, events = web.StreamResponse(), asyncio.Queue[Object | None]()
        self.streams[plural].append(events)
        await response.prepare(request)
        try:
            while event := await events.get():
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self.streams[plural].remove(events)
        return response


def _discovery(path: str) -> Object:
    """Versions, groups, or the kinds of a group."""
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        pairs = sorted({(kind.group, kind.version) for kind in KINDS.values() if kind.group})
        return {"groups": [{"name": g, "versions": [{"version": v}], "preferredVersion": {"version": v}} for g, v in pairs]}
    group_version = path.removeprefix("/apis/").removeprefix("/api/")
    found = [(kind.name, kind.plural) for kind in KINDS.values() if kind.api_version == group_version]
    found += [("Namespace", "namespaces")] if group_version == "v1" else []
    verbs = ["list", "watch", "patch"]
    return {
        "resources": [{"kind": kind, "name": name, "singularName": "", "namespaced": True, "verbs": verbs} for kind, name in found]
    }


class Standby:
    """A lease that another operator holds."""

    async def lead(self, _: Callable[[], Awaitable[object]]) -> None:
        await asyncio.Event().wait()


class Operator:
    """The lives of an operator against a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.controllers: list[Controller] = []

    async def live(self) -> None:
        api = KubernetesApi()
        heartbeat = Heartbeat(api, "demo", lambda _: None, lambda: False)
        controller = Controller(Settings(), api, heartbeat, Standby())  # type: ignore[arg-type]
        self.controllers.append(controller)
        try:
            await live_once(controller, Census(controller, api), lambda: None)
        finally:
            await api.close()

    def knows(self, kind: str, *names: str) -> bool:
        """Whether the current life is ready and has exactly these objects."""
        current = self.controllers[-1] if self.controllers else None
        wanted = [Key(kind, "demo", name) for name in names]
        return current is not None and current.ready and sorted(current.cache.keys(kind)) == wanted

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(50):
            while not met():  # noqa: ASYNC110  the server and kopf are not ours to signal
                await asyncio.sleep(0.01)


@pytest.fixture
async def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    """An operator that lives, its server, and short intervals."""
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    names = {"cluster": "test", "user": "test"}
    config = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": names}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(census_module, "HINT_SECONDS", 0.2)
    monkeypatch.setattr(census_module, "STEP_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.2)
    found = Operator(server)
    lives = asyncio.create_task(supervise(found.live))
    yield found
    lives.cancel()
    await asyncio.gather(lives, return_exceptions=True)
    await runner.cleanup()


async def test_what_exists_and_what_comes_is_known(operator: Operator) -> None:
    operator.server.put("Service", "a")
    await operator.until(lambda: operator.knows("Service", "a"))
    operator.server.put("Service", "b")
    await operator.until(lambda: operator.knows("Service", "a", "b"))


@pytest.mark.parametrize("left", [(), ("b",)], ids=["the last of its kind", "one of two"])
async def test_a_deletion_behind_a_410_is_found(left: tuple[str, ...], operator: Operator) -> None:
    for name in ("a", *left):
        operator.server.put("Service", name)
    await operator.until(lambda: operator.knows("Service", "a", *left) and bool(operator.server.streams["services"]))
    operator.server.lose("Service", "a")
    await operator.until(lambda: operator.knows("Service", *left))
    assert len(operator.controllers) == 1, "no new life was needed"


@pytest.mark.parametrize("path", ["/apis/batch/v1", "/api/v1", "/apis", "/apis/subterra.dev/v1alpha1"])
async def test_what_discovery_leaves_out_is_watched_in_the_next_life(path: str, operator: Operator) -> None:
    operator.server.broken[path] = 1
    operator.server.put("Job", "a")
    await operator.until(lambda: operator.knows("Job", "a"))
    assert len(operator.controllers) > 1
    await operator.until(lambda: all(operator.server.streams[KINDS[kind].plural] for kind in WATCHED))


async def test_kinds_that_are_served_later_are_watched_then(operator: Operator) -> None:
    """As when the CRDs are installed after the operator has started."""
    operator.server.broken.update({"/apis/subterra.dev/v1alpha1": 1, KINDS["Procedure"].path(): 5})
    await operator.until(lambda: operator.knows("Procedure") and bool(operator.server.streams["procedures"]))
    assert operator.server.broken[KINDS["Procedure"].path()] == 0


async def test_a_404_on_a_watch_costs_a_life_and_loses_nothing(operator: Operator) -> None:
    operator.server.broken["watch pods"] = 2
    operator.server.put("Service", "a")
    await operator.until(lambda: operator.knows("Service", "a") and bool(operator.server.streams["pods"]))
    assert len(operator.controllers) == 3


async def test_a_backup_that_is_restored_while_the_operator_runs_is_believed(operator: Operator) -> None:
    operator.server.version = 500
    operator.server.put("Service", "deleted-since")
    operator.server.put("Service", "kept")
    await operator.until(lambda: operator.knows("Service", "deleted-since", "kept"))
    operator.server.version = 300
    operator.server.objects["services"].clear()
    operator.server.put("Service", "kept")
    for stream in operator.server.streams["services"]:
        stream.put_nowait(None)  # the restored API server has other connections
    await operator.until(lambda: operator.knows("Service", "kept"))
    version = operator.controllers[-1].cache.versions("Service")[Key("Service", "demo", "kept")]
    assert version.number == 301


async def test_kopf_writes_nothing_and_leaves_a_foreign_finalizer_alone(operator: Operator) -> None:
    for kind in ("Service", "ConfigMap", "Pod"):
        operator.server.put(kind, "a", finalizers=[MARKER])
    await operator.until(lambda: all(operator.knows(kind, "a") for kind in ("Service", "ConfigMap", "Pod")))
    operator.server.put("Pod", "a", finalizers=[MARKER], deletionTimestamp="2026-11-28T00:00:00Z")
    number = operator.server.version
    await operator.until(lambda: operator.controllers[-1].cache.versions("Pod")[Key("Pod", "demo", "a")].number == number)
    await asyncio.sleep(0.3)
    assert operator.server.writes == []


async def test_kopf_remembers_no_object_once_its_event_is_over(operator: Operator) -> None:
    operator.server.put("Service", "a")
    await operator.until(lambda: operator.knows("Service", "a"))
    await operator.until(lambda: not any(isinstance(each, ResourceMemory) for each in gc.get_objects()))
