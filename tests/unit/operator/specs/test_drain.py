"""Serving pods that have to go, under clients that keep their connections open: no request fails, and clients move at once.

The pods run the operator's command and hook, on vLLM's HTTP server with a stand-in for its model.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_cli.chat.load.load_run import LoadRun, customers
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.in_vllm import drain, drainable_vllm
from subterra_operator.specs.in_vllm.drainable_vllm import Message, Receive, Send
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.servers.local_server import free_port
from subterra_testkit.servers.serving.stand_in_pod import StandInPod, stand_in_pod
from subterra_testkit.servers.serving.stand_in_vllm import make_package
from subterra_testkit.servers.serving.tcp_service import TcpService

CLIENTS = 8
MIDDLEWARE = ("--middleware", "__main__.Drainable")
BODY = {"model": "shop", "messages": [{"role": "user", "content": "Hello"}]}
SHOP = procedure(
    agent("hello", "ask", examples=["What do you want?"]),
    user("ask", branch("tea", "Tea, please."), branch("coffee", "Coffee, please.")),
    end("tea", examples=["Here is your tea."]),
    end("coffee", examples=["Here is your coffee."]),
)


class Rollout:
    """Clients who talk over a Service while its endpoints change."""

    def __init__(self, url: str) -> None:
        self._talks = True
        self._run = LoadRun(url, "shop", SHOP, customers(SHOP, 10, 1))
        self._clients = asyncio.create_task(self._run.closed_loop(CLIENTS, lambda: self._talks))

    async def requests(self, more: int = 5 * CLIENTS) -> None:
        """Returns when this many further requests are over."""
        wanted = len(self._run.requests) + more
        while len(self._run.requests) < wanted:  # noqa: ASYNC110  the clients tell nobody
            await asyncio.sleep(0.01)

    async def failures(self) -> list[str | None]:
        """The kinds of failures that the clients saw, when they have finished."""
        self._talks = False
        return [request.error for request in (await self._clients).requests if request.error]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path)


@pytest.fixture
def new(package: Path) -> Iterator[StandInPod]:
    with stand_in_pod(package) as pod:
        yield pod


@pytest.fixture
def old(package: Path) -> Iterator[StandInPod]:
    with stand_in_pod(package) as pod:
        yield pod


async def test_clients_on_open_connections_move_with_the_traffic_and_no_request_fails(old: StandInPod, new: StandInPod) -> None:
    service = TcpService([old.port])
    async with service.running() as url:
        rollout = Rollout(url)
        await rollout.requests()
        service.move(new.port)
        before = service.connections[old.port]
        await old.end()
        await rollout.requests()
        assert await rollout.failures() == []
    assert service.connections[old.port] == before


async def test_a_pod_that_leaves_serves_what_proxies_still_send_it(old: StandInPod, new: StandInPod) -> None:
    """A drained node: the pod is told to end while the Service still sends it requests.

    One of them lasts until the Service has moved: on a busy machine clients might pause for as long as the pod waits for quiet.
    """
    service = TcpService([old.port, new.port])
    async with service.running() as url:
        rollout = Rollout(url)
        await rollout.requests()
        async with old.held(json.dumps(BODY).encode()):
            ending, before = asyncio.create_task(old.end(quiet=2)), service.connections[old.port]
            await rollout.requests(10 * CLIENTS)
            assert old.process.poll() is None, "it ended although requests still came"
            assert service.connections[old.port] > before
            service.move(new.port)
        await ending
        await rollout.requests()
        assert await rollout.failures() == []


async def test_without_the_middleware_clients_stay_with_the_old_server_and_lose_requests(new: StandInPod, package: Path) -> None:
    """What it is for; also that these clients and this Service are like real ones."""
    with stand_in_pod(package, without=MIDDLEWARE) as old:
        service = TcpService([old.port])
        async with service.running() as url:
            rollout = Rollout(url)
            await rollout.requests()
            service.move(new.port)
            await rollout.requests()
            assert new.port not in service.asked
            old.process.kill()
            await rollout.requests()
            assert await rollout.failures()


async def test_a_reply_that_is_being_streamed_is_finished(package: Path) -> None:
    with stand_in_pod(package, seconds=2) as pod:
        url = f"http://127.0.0.1:{pod.port}/v1/chat/completions"
        async with httpx.AsyncClient(timeout=30) as client, client.stream("POST", url, json=BODY | {"stream": True}) as reply:
            lines = reply.aiter_lines()
            said = [await anext(lines)]
            ending = asyncio.create_task(pod.end(quiet=0.1))
            said += [line async for line in lines]
            assert not ending.done()
            await ending
        assert "[DONE]" in said[-2:][0] + said[-1]


async def test_quiet_is_the_time_since_the_last_request_ended_and_probes_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now, idle = [0.0], list[float]()
    monkeypatch.setattr(drainable_vllm.time, "monotonic", lambda: now[0])

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        now[0] += 3
        idle.append(await idle_seconds())

    async def idle_seconds() -> float:
        said = list[Message]()
        await call("GET", drainable_vllm.IDLE_PATH, said)
        return float(said[-1]["body"])

    async def call(method: str, path: str, said: list[Message]) -> None:
        async def send(message: Message) -> None:
            said.append(message)

        await drainable({"type": "http", "method": method, "path": path}, receive, send)

    async def receive() -> Message:
        return {"type": "http.request"}

    drainable = drainable_vllm.Drainable(app)
    now[0] = 5
    idle.append(await idle_seconds())
    await call("POST", "/v1/chat/completions", [])
    now[0] = 10
    idle.append(await idle_seconds())
    await call("GET", "/health", [])
    assert idle == [5, 0, 2, 5], "before a request, within it, 2 s after its end, within a probe"


def test_a_server_without_an_answer_is_not_quiet() -> None:
    assert drain.idle_seconds(f"http://127.0.0.1:{free_port()}/subterra/idle") == 0


def test_the_hook_waits_for_quiet_from_its_own_start_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that nobody has asked for an hour may be asked while its pod leaves the Service."""
    now, asked = [0.0], list[float]()
    monkeypatch.setattr(drain.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(drain.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(drain, "idle_seconds", lambda url: asked.append(now[0]) or 3600.0)
    drain.drain("url", 5, 60)
    assert asked[-1] == 5
    monkeypatch.setattr(drain, "idle_seconds", lambda url: 0.0)
    drain.drain("url", 5, 60)
    assert now[0] == 65


def test_kubelet_gives_the_hook_the_time_that_it_may_take() -> None:
    target = ServingTarget(Model("models/1", "travel"), "sha256:1")
    pod = deployment(make.agent(), CompiledAgentSpec.model_construct(), target, Settings(), make.NOW)["spec"]["template"]["spec"]
    [vllm] = pod["containers"]
    hook = vllm["lifecycle"]["preStop"]["exec"]["command"]
    assert float(hook[-2]) < float(hook[-1]) < pod["terminationGracePeriodSeconds"]
