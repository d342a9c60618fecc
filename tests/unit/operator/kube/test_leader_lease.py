"""The leader's Lease: at most one operator may write, whatever stops, freezes or is cut off."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra_operator.kube.api_client import ApiError
from subterra_operator.kube.leader_lease import Election, LeaderLease, own_identity
from subterra_operator.resources import Key, Object
from subterra_operator.settings import LeaseSettings
from subterra_testkit.cluster.lease_candidates import Candidate, LeaseServer, SteppedClock, settled

TIMES = LeaseSettings()
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINE, THEIRS = "subterra-a", "subterra-b"


def election(identity: str = MINE) -> Election:
    return Election(identity, TIMES)


def held_by(holder: str, renewed: str = "2026-11-28T12:00:00.000000Z", **more: Any) -> Object:
    return {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed, "leaseTransitions": 1, **more}


# The rules, without a clock.


def test_a_holder_may_write_for_ten_seconds_after_it_sent_its_last_renewal() -> None:
    mine = election()
    assert not mine.holds(0.0)
    mine.renewed(sent_at=100.0)
    assert (mine.holds(100.0), mine.holds(109.9), mine.holds(110.0)) == (True, True, False)


@pytest.mark.parametrize("seconds", [15, 60], ids=["as long as ours", "longer than ours"])
def test_a_lease_is_taken_when_it_was_seen_without_renewal_for_its_duration(seconds: int) -> None:
    mine, theirs = election(), held_by(THEIRS, leaseDurationSeconds=seconds)
    assert [mine.may_take(theirs, now) for now in (50.0, 49.9 + seconds, 50.0 + seconds)] == [False, False, True]


LOOKS = [(50.0, 50.0, 2.0), (50.0, 50.5, 1.5), (64.0, 64.0, 1.0), (66.0, 66.0, 2.0), (50.0, 55.0, 0.0)]


@pytest.mark.parametrize(("looked_at", "now", "pause"), LOOKS)
def test_a_candidate_looks_every_two_seconds_and_when_the_lease_is_due(looked_at: float, now: float, pause: float) -> None:
    mine = election()
    mine.may_take(held_by(THEIRS), 50.0)
    assert mine.pause(looked_at, now) == pause


def test_every_renewal_that_is_seen_starts_the_wait_again() -> None:
    mine = election()
    mine.may_take(held_by(THEIRS), 50.0)
    renewed = held_by(THEIRS, "2026-11-28T12:00:02.000000Z")
    assert [mine.may_take(renewed, now) for now in (64.0, 78.9, 79.0)] == [False, False, True]


def test_the_holders_time_of_day_decides_nothing() -> None:
    mine = election()
    assert not mine.may_take(held_by(THEIRS, "1999-01-01T00:00:00.000000Z"), 50.0)


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, held_by(MINE)], ids=["empty", "released", "ours"])
def test_a_free_lease_and_ones_own_are_taken_at_once(spec: Object) -> None:
    assert election().may_take(spec, 0.0)


def test_a_renewal_keeps_since_when_it_is_held_and_a_change_of_holder_is_counted() -> None:
    theirs = held_by(THEIRS, acquireTime="2026-11-28T11:00:00.000000Z")
    taken = election().renewal(theirs, NOON)
    assert taken == {
        "holderIdentity": MINE,
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-28T12:00:00.000000Z",
        "renewTime": "2026-11-28T12:00:00.000000Z",
        "leaseTransitions": 2,
    }
    renewed = election().renewal(taken, NOON.replace(minute=1))
    assert renewed == taken | {"renewTime": "2026-11-28T12:01:00.000000Z"}


@pytest.mark.parametrize("times", [(15, 15, 2), (15, 16, 2), (15, 10, 10), (15, 2, 3)])
def test_times_under_which_two_could_write_are_refused(times: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="durationSeconds must be above renewSeconds, and renewSeconds above retrySeconds"):
        LeaseSettings(duration_seconds=times[0], renew_seconds=times[1], retry_seconds=times[2])


STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "both"]), st.floats(0.0, 20.0), st.floats(0.0, 8.0)), max_size=60)


@given(STEPS)
def test_whoever_is_stopped_for_however_long_no_two_may_write(steps: list[tuple[str, float, float]]) -> None:
    """Candidates try one after the other; each renewal reaches the API server some time after it was sent, or never."""
    candidates, spec, now = {name: election(name) for name in "ab"}, Object(), 0.0
    for number, (who, pause, delay) in enumerate(steps):
        now += pause
        for name in candidates if who == "both" else [who]:
            mine, sent_at = candidates[name], now
            if mine.may_take(spec, now):
                spec = mine.renewal(spec, NOON.replace(microsecond=number))
                now += delay
                mine.renewed(sent_at)
            else:
                mine.lost()
            assert sum(each.holds(now) for each in candidates.values()) <= 1


def test_a_pod_keeps_its_identity_and_two_processes_on_one_host_have_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "subterra-7d9f-x2x4z")
    assert own_identity() == "subterra-7d9f-x2x4z"
    monkeypatch.delenv("POD_NAME")
    assert own_identity() != own_identity()


# The operator's part, with a clock that only moves when somebody sleeps.


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


async def test_the_first_acts_at_once_and_the_second_waits(server: LeaseServer, clock: SteppedClock) -> None:
    first, second = Candidate(server, clock, MINE), Candidate(server, clock, THEIRS)
    await clock.advance(60)
    assert (first.working, second.working, server.holder) == (True, False, MINE)
    assert (first.lease.holds, second.lease.holds) == (True, False)
    await first.stop()
    await second.stop()


ENDS = {"shut down": (Candidate.stop, "", 0.0, 2.0), "dead": (Candidate.die, MINE, 15.0, 16.0)}


@pytest.mark.parametrize(("end", "holder", "alone", "within"), ENDS.values(), ids=ENDS)
async def test_a_leader_that_ends_is_followed_in_time(
    server: LeaseServer, clock: SteppedClock, end: Callable[[Candidate], Awaitable[None]], holder: str, alone: float, within: float
) -> None:
    first = Candidate(server, clock, MINE)
    await clock.advance(5)
    second = Candidate(server, clock, THEIRS)
    await clock.advance(5)
    await end(first)
    assert (first.working, server.holder) == (False, holder)
    await clock.advance(alone)
    assert not second.working
    await clock.advance(within - alone)
    assert (second.working, server.holder) == (True, THEIRS), "its wait ends when the lease does, not at its next look"
    await second.stop()


async def test_a_standby_whose_look_hangs_gives_it_up_and_looks_again_at_once(server: LeaseServer) -> None:
    """In real time, with one second instead of five: whoever sees the last renewal late begins to wait late."""
    quick = LeaseSettings(duration_seconds=3, renew_seconds=2.0, retry_seconds=1.0)
    read, requests = server.get, 0

    async def hangs_once(key: Key) -> Object:
        nonlocal requests
        requests += 1
        if requests == 1:
            await asyncio.Event().wait()
        return await read(key)

    server.get = hangs_once  # type: ignore[method-assign]
    lease, led = LeaderLease(server, quick, "system", identity=MINE), asyncio.Event()

    async def work() -> None:
        led.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lease.lead(work))
    began = time.monotonic()
    await led.wait()
    assert quick.renew_seconds / 2 <= time.monotonic() - began < quick.renew_seconds
    assert requests == 2
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_restarted_container_of_the_same_pod_goes_on_at_once(server: LeaseServer, clock: SteppedClock) -> None:
    server.lease = {"metadata": {"name": "x", "resourceVersion": "1"}, "spec": held_by(MINE)}
    again = Candidate(server, clock, MINE)
    await settled()
    assert again.working
    await again.stop()


FAILURES = {
    "refused": ApiError(403, "Forbidden", "no"),
    "out of reach": ApiError(0, "Unreachable", "gone"),
    "too slow": TimeoutError(),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_a_leader_that_cannot_renew_stops_before_another_may_begin(
    server: LeaseServer, clock: SteppedClock, failure: Exception
) -> None:
    only = Candidate(server, clock, MINE)
    await clock.advance(5)
    server.broken = failure
    await clock.advance(4.9)
    assert only.working
    await clock.advance(5.1)
    assert (only.working, only.lease.holds) == (False, False)
    server.broken = None
    await clock.advance(2)
    assert (only.working, only.terms) == (True, 2)
    await only.stop()


async def test_a_frozen_leader_that_wakes_after_a_takeover_never_holds_again(server: LeaseServer, clock: SteppedClock) -> None:
    first = Candidate(server, clock, MINE)
    await clock.advance(5)
    server.lease = {**(server.lease or {}), "spec": held_by(THEIRS)}  # someone took it while this one was stopped
    (server.lease["metadata"]).update(resourceVersion="99")
    clock.now += 30
    assert not first.lease.holds, "already before it notices anything"
    await clock.advance(3)
    assert (first.working, server.holder, server.writes) == (False, THEIRS, 3)
    await first.stop()
    assert server.holder == THEIRS, "a stopping standby leaves the lease alone"


async def test_a_frozen_leader_that_nobody_followed_begins_a_new_term(server: LeaseServer, clock: SteppedClock) -> None:
    only = Candidate(server, clock, MINE)
    await clock.advance(5)
    await clock.advance(30, asleep=True)
    await clock.advance(2)
    assert (only.working, only.terms) == (True, 2)
    await only.stop()


async def test_of_two_who_take_a_free_lease_at_once_one_has_it_and_the_other_does_not_warn(
    server: LeaseServer, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    read, go_on = server.get, asyncio.Event()

    async def slow(key: Key) -> Object:
        try:
            return await read(key)
        finally:
            await go_on.wait()

    server.get = slow  # type: ignore[method-assign]
    both = [Candidate(server, clock, identity) for identity in (MINE, THEIRS)]
    await settled()
    go_on.set()
    await clock.advance(30)
    assert sorted(each.working for each in both) == [False, True]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "somebody has to be the second"
    for each in both:
        await each.stop()


async def test_a_renewal_whose_reply_is_lost_counts_only_once_it_is_read_again(server: LeaseServer, clock: SteppedClock) -> None:
    only = Candidate(server, clock, MINE)
    await clock.advance(1)
    server.loses_replies = True
    await clock.advance(2)
    server.loses_replies = False
    await clock.advance(30)
    assert (only.working, only.terms, server.holder) == (True, 1, MINE)
    await only.stop()


async def test_a_deleted_lease_is_made_again_by_its_holder(server: LeaseServer, clock: SteppedClock) -> None:
    only = Candidate(server, clock, MINE)
    await clock.advance(5)
    server.lease = None
    await clock.advance(5)
    assert (only.working, only.terms, server.holder) == (True, 1, MINE)
    await only.stop()


async def test_the_lease_is_released_though_a_renewal_arrives_meanwhile(server: LeaseServer, clock: SteppedClock) -> None:
    first = Candidate(server, clock, MINE)
    await clock.advance(5)
    read = server.get

    async def outdated(key: Key) -> Object:
        found = await read(key)
        server.get = read  # type: ignore[method-assign]
        await server.replace(found)
        return found

    server.get = outdated  # type: ignore[method-assign]
    await first.stop()
    assert server.holder == ""


async def test_a_failure_of_the_work_ends_the_term_and_is_raised(server: LeaseServer, clock: SteppedClock) -> None:
    lease = LeaderLease(server, TIMES, "system", identity=MINE, clock=clock, sleep=clock.sleep)

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await lease.lead(fails)


async def test_a_server_that_does_not_respond_is_asked_again_before_the_lease_ends(server: LeaseServer) -> None:
    """In real time, with three seconds instead of ten; a busy machine may take half of them."""
    quick = LeaseSettings(duration_seconds=15, renew_seconds=3, retry_seconds=0.02)
    lease = LeaderLease(server, quick, "system", identity=MINE)
    replace: Callable[[Object], Awaitable[Object]] = server.replace
    requests, renewed = 0, asyncio.Event()

    async def hangs_once(obj: Object) -> Object:
        nonlocal requests
        requests += 1
        if requests == 1:
            await asyncio.Event().wait()
        renewed.set()
        return await replace(obj)

    server.replace = hangs_once  # type: ignore[method-assign]
    terms = 0

    async def work() -> None:
        nonlocal terms
        terms += 1
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lease.lead(work))
    await renewed.wait()
    await settled()
    assert (terms, lease.holds) == (1, True)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
