"""Probes are answered by threads, whatever the event loop does."""

import asyncio
import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from subterra_operator.monitoring import health as module
from subterra_operator.monitoring.health import SILENCE_SECONDS, STUCK_SECONDS, Health, serving


@dataclass
class State:
    """A heartbeat and a controller."""

    watch_silence: float = 0.0
    ready: bool = True


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def health(state: State) -> Health:
    found = Health(state)
    found.controller = state
    return found


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    with serving(health, 0) as found:
        yield found


def test_a_sound_operator_is_healthy_and_ready(port: int) -> None:
    assert [get(port, path)[0] for path in ("/healthz", "/readyz", "/metrics", "/")] == [200, 200, 200, 404]
    assert "subterra_queue_keys" in get(port, "/metrics")[1]


def test_stale_watches_are_unhealthy(port: int, state: State) -> None:
    state.watch_silence = SILENCE_SECONDS + 5
    assert get(port, "/healthz") == (503, "watches are stale: no heartbeat for 85 s although the API server responds\n")
    assert get(port, "/readyz")[0] == 200


def test_between_two_lives_it_is_healthy_but_not_ready(port: int, health: Health, state: State) -> None:
    state.ready = False
    assert (get(port, "/healthz")[0], get(port, "/readyz")[0]) == (200, 503)
    health.controller = None
    assert (get(port, "/healthz")[0], get(port, "/readyz")[0]) == (200, 503)


async def test_a_busy_event_loop_fails_no_probe(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(get, port, "/healthz")
        while not answer.done():
            time.sleep(0.01)  # noqa: ASYNC251  the loop is meant to be blocked
        assert answer.result()[0] == 200


async def test_an_event_loop_that_is_stuck_for_long_is_unhealthy(
    port: int, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    task = asyncio.create_task(health.run())
    await asyncio.sleep(0)
    task.cancel()
    now += STUCK_SECONDS - 1
    assert health.report("/healthz")[0] == 200
    now += 2
    assert health.report("/healthz")[0] == 503
    assert b"stuck for 121 s" in health.report("/healthz")[2]
