"""Two jobs that want the same artifact: one works, the other waits for it, or takes over when it died."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from subterra_api.job_contract.artifacts import lease_path
from subterra_api.job_contract.messages import ExitCode, RunInput, StageResult
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.runner import StageContext, StageOutcome, execute
from subterra_jobs.store import lease as lease_module
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import (
    GIVE_UP_SECONDS,
    RENEW_SECONDS,
    STALE_SECONDS,
    Heartbeat,
    Lease,
    acquire,
    keep_renewed,
    release,
)
from subterra_testkit.runs.generation_inputs import TRAVEL_1, run_input

FOLDER = "work/abc.lease"


class World:
    """A waiter's clock, which moves only while it sleeps, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reports: list[str] = []
        self.happens: dict[float, Callable[[], None]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self.happens if at <= self.now]:
            self.happens.pop(at)()

    def acquire(self, store: ArtifactStore, holder: str = "travel-2", done: Callable[[], bool] = lambda: False) -> Lease | None:
        return acquire(store, FOLDER, holder, done=done, report=self.reports.append, clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def store(store_uri: str) -> ArtifactStore:
    return ArtifactStore(store_uri)


@pytest.fixture
def world() -> World:
    return World()


def first(store: ArtifactStore, world: World) -> Lease:
    lease = world.acquire(store, "travel-1")
    assert lease is not None
    return lease


def test_who_comes_first_works_at_once(store: ArtifactStore, world: World) -> None:
    assert first(store, world).number == 1
    assert world.reports == []


def test_of_many_who_come_at_once_one_creates_the_turn(store: ArtifactStore) -> None:
    won: list[bool] = []
    gate = threading.Barrier(8)

    def try_it(name: str) -> None:
        gate.wait()
        won.append(store.create(f"{FOLDER}/000001.json", name.encode()))

    threads = [threading.Thread(target=try_it, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


@pytest.mark.parametrize(("content", "created"), [(b"ours", True), (b"theirs", False)])
def test_an_object_store_that_answers_a_conditional_put_oddly_is_asked_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, created: bool
) -> None:
    """A put that got through may be answered with "exists" when the client sends it again; and not all stores say it alike."""
    store = ArtifactStore(f"memory://{tmp_path}")
    store.put("turn", content)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(store.fs, "pipe_file", refuse)
    assert store.create("turn", b"ours") is created
    with pytest.raises(OSError, match="pre-conditions"):
        store.create("another", b"ours")


def test_who_waits_says_for_whom_and_goes_on_as_soon_as_the_holder_ends(store: ArtifactStore, world: World) -> None:
    holder = first(store, world)
    world.happens[6] = lambda: release(holder)
    assert world.acquire(store) is not None
    assert world.now == 6
    assert set(world.reports) == {"waiting for run travel-1, which is working on the same artifact"}


def test_who_waits_works_no_more_when_the_artifact_appears(store: ArtifactStore, world: World) -> None:
    holder, artifact = first(store, world), list[str]()
    world.happens[6] = lambda: artifact.append("there")
    assert world.acquire(store, done=lambda: bool(artifact)) is None
    holder.check()


def test_an_artifact_that_appears_just_before_the_lease_is_free_is_seen(store: ArtifactStore, world: World) -> None:
    release(first(store, world))
    answers = iter([False, True])
    assert world.acquire(store, done=lambda: next(answers)) is None
    assert world.acquire(store) is not None, "the turn that was taken in vain has ended"


def test_a_holder_that_does_not_renew_is_followed_after_a_minute_of_the_waiters_own_clock(
    store: ArtifactStore, world: World
) -> None:
    holder = first(store, world)
    successor = world.acquire(store)
    assert successor is not None
    assert (world.now, successor.number) == (STALE_SECONDS, 2)
    with pytest.raises(InfrastructureError, match="taken over"):
        holder.check()


def test_a_holder_that_renews_is_waited_for(store: ArtifactStore, world: World) -> None:
    heart = Heartbeat(first(store, world), lambda: world.now)
    for beat in range(1, 60):
        world.happens[beat * RENEW_SECONDS] = heart.renew
    assert world.acquire(store) is not None
    assert world.now == pytest.approx(59 * RENEW_SECONDS + STALE_SECONDS, abs=2)


def test_a_turn_whose_holder_died_while_it_wrote_it_is_followed_as_well(store: ArtifactStore, world: World) -> None:
    store.create(f"{FOLDER}/000001.json", b"")
    lease = world.acquire(store)
    assert lease is not None
    assert (world.now, lease.number) == (STALE_SECONDS, 2)


def test_a_holder_that_wakes_up_too_late_stops_and_leaves_its_successor_alone(store: ArtifactStore, world: World) -> None:
    sleeper = first(store, world)
    successor = world.acquire(store)
    assert successor is not None
    with pytest.raises(InfrastructureError, match="taken over"):
        Heartbeat(sleeper).renew()
    successor.check()
    assert json.loads(store.read(successor.path) or b"")["holder"] == "travel-2"


def test_a_holder_whose_store_does_not_answer_gives_up_before_it_is_taken_for_dead(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    heart = Heartbeat(first(store, world), lambda: world.now)
    monkeypatch.setattr(ArtifactStore, "put", unavailable)
    for world.now in range(10, int(GIVE_UP_SECONDS), 10):
        heart.renew()
    world.now = GIVE_UP_SECONDS
    assert GIVE_UP_SECONDS + RENEW_SECONDS < STALE_SECONDS
    with pytest.raises(InfrastructureError, match="has not responded for 40 s"):
        heart.renew()


def unavailable(*_: object) -> None:
    raise OSError("the store is away")


def test_losing_the_lease_interrupts_the_work_as_an_infrastructure_error(tmp_path: Path, world: World) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    lease = first(store, world)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with pytest.raises(InfrastructureError, match="taken over"), keep_renewed(lease, every=0.05):
            overtaken(store, world)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert json.loads(store.read(f"{FOLDER}/000002.json") or b"")["ended"] is False


def overtaken(store: ArtifactStore, world: World) -> None:
    """Work under way while another job takes over."""
    world.acquire(store)
    time.sleep(30)


def test_work_that_lost_its_lease_is_not_published(tmp_path: Path, world: World) -> None:
    run = run_input(tmp_path)
    store = ArtifactStore(run.store)

    def taken_over(context: StageContext) -> StageOutcome:
        lease = context.lease
        store.create(f"{lease.folder}/{lease.number + 1:06d}.json", b"{}")
        return StageOutcome("done")

    with pytest.raises(InfrastructureError, match="taken over"):
        execute("generate", taken_over, run, port=0)
    assert not (tmp_path / "datasets").exists()


def test_attach_waits_for_nobody(tmp_path: Path) -> None:
    run = run_input(tmp_path)
    ArtifactStore(run.store).create(f"{lease_path(run.keys.dataset)}/000001.json", b"{}")
    with pytest.raises(InfrastructureError, match="no result to read back"):
        execute("generate", lambda _: StageOutcome("never"), run, attach=True, port=0)


def test_a_failure_lets_the_next_in_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "POLL_SECONDS", 1000)
    run = run_input(tmp_path)
    with pytest.raises(ZeroDivisionError):
        execute("generate", lambda _: StageOutcome(str(1 / 0)), run, port=0)
    assert execute("generate", lambda _: StageOutcome("done"), run, port=0).reused is False


PAYS_AND_TAKES_ITS_TIME = """
import asyncio, sys, time
from decimal import Decimal
from pathlib import Path
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.stage.runner import StageOutcome, main

async def pay(context):
    guard = BudgetGuard(
        Ledger(context.store, context.input.run), "generate", context.environment.budget, check=context.lease.check
    )
    await guard.commit(await guard.reserve(Decimal(1)), {"usd": "1", "tokens": 1})

def work(context):
    asyncio.run(pay(context))
    Path(context.store.root, "paid").touch()
    while not Path(context.store.root, "go").exists():
        time.sleep(0.02)
    return StageOutcome("done", usd="1")

main("generate", work)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], "Job"]]:
    with ExitStack() as stack:

        def begin(name: str) -> Job:
            job = Job(tmp_path, name)
            stack.callback(job.end)
            return job

        yield begin


class Job:
    """A process that does the stage for a run of its own."""

    def __init__(self, tmp_path: Path, name: str) -> None:
        self.store, self.log = tmp_path / "store", tmp_path / f"{name}.log"
        identity = TRAVEL_1.model_copy(update={"name": name, "uid": name})
        self.run: RunInput = run_input(self.store).model_copy(update={"run": identity})
        source = tmp_path / f"{name}.json"
        source.write_text(self.run.model_dump_json(by_alias=True))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PAYS_AND_TAKES_ITS_TIME, "--input", str(source)],
            stderr=(tmp_path / f"{name}.err").open("w"),
            env=os.environ | {"SUBTERRA_TERMINATION_LOG": str(self.log)},
        )
        self.stderr = tmp_path / f"{name}.err"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def result(self) -> StageResult:
        assert self.process.wait(60) == ExitCode.SUCCEEDED
        return StageResult.model_validate_json(self.log.read_text())

    def paid(self) -> list[str]:
        return [payment.run for payment in Ledger(ArtifactStore(self.run.store), self.run.run).new_payments()]


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_that_want_one_artifact_do_the_work_once_and_pay_once(start: Callable[[str], Job]) -> None:
    one = start("travel-1")
    until((one.store / "paid").exists)
    two = start("travel-2")
    until(lambda: "waiting for run travel-1" in two.stderr.read_text())
    (one.store / "go").touch()
    assert (one.result().reused, two.result().reused) == (False, True)
    assert one.result().digest == two.result().digest
    assert two.paid() == ["travel-1"]


def test_a_job_that_is_told_to_stop_lets_the_next_in_at_once(start: Callable[[str], Job]) -> None:
    one = start("travel-1")
    until((one.store / "paid").exists)
    one.process.terminate()
    assert one.process.wait(30) == 128 + signal.SIGTERM
    (one.store / "go").touch()
    two = start("travel-2")
    assert two.result().reused is False
    assert "waits" not in two.stderr.read_text()
