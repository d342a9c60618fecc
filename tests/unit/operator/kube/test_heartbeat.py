"""The heartbeat: an operator whose watches are deaf knows it, whether it leads or stands by."""

from typing import Any

import pytest

from subterra_operator.kube import heartbeat
from subterra_operator.kube.api_client import ApiError, NotFoundError, NotLeaderError
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.resources import Key, Object


class Server:
    """An API server that has a beat, or the error that it answers with."""

    def __init__(self) -> None:
        self.version, self.writes = 100, 0
        self.error: ApiError | None = None

    async def apply(self, _: Object) -> Object:
        if self.error is None:
            self.version, self.writes = self.version + 1, self.writes + 1
        return await self.get()

    async def get(self, *_: Key) -> Object:
        if self.error:
            raise self.error
        return self.beat

    @property
    def beat(self) -> Object:
        return {"metadata": {"resourceVersion": str(self.version)}}


class Time:
    """Stands in for the module ``time``."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(heartbeat, "time", found)
    return found


@pytest.fixture
def server() -> Server:
    return Server()


def of(server: Any, *, leads: bool) -> Heartbeat:
    return Heartbeat(server, "system", lambda _: None, lambda: leads)


async def after(clock: Time, beats: Heartbeat, seconds: float) -> float:
    """The silence when the next beat is over."""
    clock.now += seconds
    await beats.beat()
    return beats.watch_silence


async def test_a_leader_whose_beats_do_not_come_back_counts_the_silence_from_the_first(server: Server, clock: Time) -> None:
    beats = of(server, leads=True)
    assert [await after(clock, beats, 20) for _ in range(3)] == [0, 20, 40]
    beats.delivered(server.beat)
    assert beats.watch_silence == 0


async def test_an_event_may_be_faster_than_the_reply(server: Server, clock: Time) -> None:
    beats = of(server, leads=True)
    beats.delivered({"metadata": {"resourceVersion": "101"}})
    assert [await after(clock, beats, 20), beats.watch_silence] == [0, 0]
    clock.now += 60
    assert beats.watch_silence == 0


async def test_a_standby_writes_nothing_and_expects_the_leaders_beats(server: Server, clock: Time) -> None:
    beats = of(server, leads=False)
    silences = []
    for _ in range(3):
        server.version += 1
        silences.append(await after(clock, beats, 20))
    assert (silences, server.writes) == ([0, 0, 20], 0)
    beats.delivered(server.beat)
    assert beats.watch_silence == 0


async def test_a_standby_does_not_miss_what_nobody_beats(server: Server, clock: Time) -> None:
    beats = of(server, leads=False)
    await after(clock, beats, 20)
    server.version += 1
    await after(clock, beats, 20)
    assert [await after(clock, beats, 20) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("leads", [True, False])
async def test_refusals_are_silence_and_an_outage_is_not(server: Server, clock: Time, leads: bool) -> None:
    beats = of(server, leads=leads)
    for error in (ApiError(0, "", "gone"), ApiError(500, "", "no"), ApiError(429, "", "later"), NotLeaderError("PATCH", "/")):
        server.error = error
        await after(clock, beats, 20)
        assert await after(clock, beats, 20) == 0
    server.error = ApiError(403, "Forbidden", "no")
    assert [await after(clock, beats, 20) for _ in range(2)] == [0, 20]


@pytest.mark.parametrize(("leads", "silences"), [(True, [0, 20]), (False, [0, 0])])
async def test_only_a_standby_may_find_no_beat(server: Server, clock: Time, leads: bool, silences: list[float]) -> None:
    server.error = NotFoundError(404, "NotFound", "there is none")
    beats = of(server, leads=leads)
    assert [await after(clock, beats, 20) for _ in range(2)] == silences
