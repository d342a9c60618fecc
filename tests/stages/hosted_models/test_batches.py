"""Judges asked in batches, over the real wire of both APIs: half the price, and no call paid twice wherever the stage is killed."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.judging import JudgingSettings
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.evaluate.judge.judges import ExaminedBatch, LLMExaminer
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import FutilityError
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_jobs.llm import client_pool
from subterra_jobs.llm.batches.batch_api import BatchApi
from subterra_jobs.llm.batches.batch_runner import BatchTimes
from subterra_jobs.llm.client_pool import ClientPool, make_batch_api
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import Cancellation, StoppedError
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.runs.generation_inputs import TRAVEL_1, travel
from subterra_testkit.runs.judgements import is_judging, judging_answer, labelling_answer
from subterra_testkit.servers.fake_batches import share_of_fates
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api
from subterra_testkit.servers.fake_model import LUNA, FakeModel

CLAUDE, GPT = {"name": "anthropic", "model": "claude-sonnet-5-5"}, {"name": "openai", "model": "gpt-6-luna"}
GRAPH = Graph(travel())
PATH = ("greet", "ask_trip", "trip", "ask_budget", "budget", "options", "choice", "confirm", "confirmation", "booked")
CONVERSATIONS = 5
BATCH, SINGLE = JudgingSettings(mode="Batch", wait_minutes=10), JudgingSettings()
WAYS_TO_KILL = 12


class KilledError(BaseException):
    """The process ends here; nothing that it would still do happens."""


def answer(body: dict[str, Any]) -> str:
    return judging_answer(body) if is_judging(body) else labelling_answer(body, {})


def conversation(number: int) -> tuple[Scenario, Conversation]:
    said = (f"Hello {number}! Where to?", "Porto, 3 May, for 2.", "Noted, Porto. What is your budget?", "$900")
    chat = tuple({"role": ("assistant", "user")[at % 2], "content": text} for at, text in enumerate(said))
    replies = tuple(Reply(text, 0.1, 10, 5, "stop") for text in said[::2])
    scenario = Scenario(f"s{number}", False, PATH, {"destination": "Porto"}, None, (), True, "")
    return scenario, Conversation(chat, replies, None)


ARMS = {"candidate": [conversation(number) for number in range(CONVERSATIONS)]}
CALLS = {"anthropic": 3 * CONVERSATIONS, "openai": 2 * CONVERSATIONS}
"""Two judgements of each judge, and a label of the first; with a tenth of five rounded down, none is repeated."""


@dataclass
class Killer:
    """Kills at the point `at`; counts the points on the way."""

    at: int = -1
    count: int = 0

    def point(self) -> None:
        self.count += 1
        if 0 <= self.at < self.count:
            raise KilledError  # whatever else is under way ends at its next point

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def killable(*args: Any, **more: Any) -> Any:
            self.point()
            result = call(*args, **more)
            self.point()
            return result

        return killable


class KillableApi:
    """The real client of a provider's batches, with a point before and after each call."""

    def __init__(self, api: BatchApi, killer: Killer) -> None:
        self._api, self._killer, self.limits = api, killer, api.limits

    def __getattr__(self, name: str) -> Any:
        async def killable(*args: Any) -> Any:
            self._killer.point()
            result = await getattr(self._api, name)(*args)
            self._killer.point()
            return result

        return killable


@dataclass
class World:
    """A store, two providers and a clock that runs while somebody sleeps."""

    folder: Path
    claude: FakeLLMApi
    gpt: FakeLLMApi
    patch: pytest.MonkeyPatch
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    notes: list[str] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.on_sleep()
        await asyncio.sleep(0)

    def judge(
        self,
        judging: JudgingSettings = BATCH,
        *,
        max_usd: str | None = None,
        cancellation: Cancellation | None = None,
        gpt: Any = GPT,
    ) -> ExaminedBatch:
        """One attempt of the stage's judging. A killed one closes nothing."""
        return asyncio.run(self._attempt(judging, max_usd, cancellation or Cancellation(), gpt))

    async def _attempt(self, judging: JudgingSettings, max_usd: str | None, cancellation: Cancellation, gpt: Any) -> ExaminedBatch:
        run = run_input(self.folder, judge=CLAUDE, secondJudge=gpt)
        environment = replace(StageEnvironment.parse({**KEYS}), budget=Budget(max_usd=max_usd), endpoints=("http://vllm/v1",))
        times = BatchTimes(lambda: self.now, sleep=self.sleep)
        pool = ClientPool(ArtifactStore(run.store), TRAVEL_1, "evaluate", environment, "work/answers", batch_times=times)
        examiner = LLMExaminer(run, GRAPH, pool, None, judging)
        try:
            await examiner.prepare(cancellation)
            self.on_sleep = lambda: self.notes.extend(pool.batches.notes() if pool.batches else ())
            found = await examiner.examine(ARMS, cancellation, lambda: None)
            await examiner.quality([found], cancellation)
        except Exception:
            await pool.close()
            raise
        await pool.close()
        return found

    def killed_at(self, point: int) -> Killer:
        """An attempt that is killed there, or comes to its end."""
        killer = Killer(point)
        with self.patch.context() as patch:
            patch.setattr(ArtifactStore, "put", killer.around(ArtifactStore.put))
            patch.setattr(ArtifactStore, "remove", killer.around(ArtifactStore.remove))

            def killable(account: Any) -> Any:
                return None if (api := make_batch_api(account)) is None else KillableApi(api, killer)

            patch.setattr(client_pool, "make_batch_api", killable)
            with suppress(KilledError):
                self.judge()
        return killer

    @property
    def paid(self) -> dict[str, int]:
        return {"anthropic": self.claude.paid, "openai": self.gpt.paid}

    @property
    def bill(self) -> Decimal:
        return self.claude.bill + self.gpt.bill

    def booked(self) -> Decimal:
        return sum((payment.usd for payment in self._payments()), Decimal(0))

    def reserved(self) -> set[str | None]:
        payments = self._payments()
        ended = {payment.batch for payment in payments if payment.ends_batch}
        return {payment.batch for payment in payments if payment.reserved is not None} - ended

    def _payments(self) -> list[Any]:
        return Ledger(ArtifactStore(self.folder.as_uri()), TRAVEL_1).new_payments()

    def keys(self) -> list[str]:
        lines = [line for file in self.folder.glob("work/answers/*/*.jsonl") for line in file.read_text().splitlines()]
        return [json.loads(line)["key"] for line in lines]

    def open_batches(self) -> int:
        return len([*self.folder.glob("work/answers/batches/*")])

    def is_settled(self) -> None:
        """All that was answered is kept and booked, once and to the cent, and nothing is left over."""
        assert self.booked() == self.bill
        assert (self.reserved(), self.open_batches()) == (set(), 0)


KEYS: Mapping[str, str] = {"ANTHROPIC_API_KEY": "sk-test", "OPENAI_API_KEY": "sk-test"}


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], World]]:
    with ExitStack() as stack:

        def make(name: str = "store") -> World:
            claude = stack.enter_context(fake_llm_api(FakeLLMApi(answer=answer)))
            gpt = stack.enter_context(fake_llm_api(FakeLLMApi(answer=answer, model=FakeModel(prices=LUNA))))
            monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.url)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{gpt.url}/v1")
            world = World(tmp_path / name, claude, gpt, monkeypatch)
            for api in (claude, gpt):
                api.batches.clock = lambda: world.now
            return world

        yield make


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()


def test_batches_cost_half_of_single_calls_and_find_the_same(make_world: Callable[[str], World]) -> None:
    single = make_world("single")
    expected = single.judge(SINGLE)
    batched = make_world("batched")
    assert batched.judge() == expected
    assert (batched.paid, single.paid) == (CALLS, CALLS)
    assert batched.bill == single.bill / 2
    assert sorted(batched.keys()) == sorted(single.keys())
    batched.is_settled()
    assert [len(batched.claude.batches.created), len(batched.gpt.batches.created)] == [1, 1]


def test_a_change_of_mode_pays_nothing_again(world: World) -> None:
    first, bill = world.judge(), world.bill
    assert world.judge(SINGLE) == first
    assert world.judge() == first
    assert world.bill == bill


def test_no_call_is_paid_twice_wherever_the_stage_is_killed(make_world: Callable[[str], World]) -> None:
    points = make_world("whole").killed_at(-1).count
    rng = random.Random(20261129)
    for point in sorted(rng.sample(range(points), WAYS_TO_KILL)):
        world = make_world(f"killed-at-{point}")
        world.claude.batches.seconds = rng.choice((0, 90))
        world.killed_at(point)
        world.killed_at(rng.randrange(points))
        world.judge()
        assert world.paid == CALLS, point
        assert len(set(world.keys())) == sum(CALLS.values()), point
        world.is_settled()


def test_a_batch_whose_reply_was_lost_is_found_in_the_providers_list(world: World) -> None:
    world.claude.batches.lost_replies = world.gpt.batches.lost_replies = 1
    world.claude.batches.seconds = 300
    strangers = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    world.claude.batches.fate = lambda body, _: "expired" if body == strangers else "succeeded"
    world.claude.batches.begin({f"theirs-{at}": strangers for at in range(CALLS["anthropic"])}, False, {})
    world.judge()
    assert world.paid == CALLS
    assert [len(world.claude.batches.created), len(world.gpt.batches.created)] == [2, 1]
    world.is_settled()


def test_results_that_break_off_or_come_short_are_fetched_again(world: World) -> None:
    for api in (world.claude, world.gpt):
        api.batches.cut_results, api.batches.short_results, api.batches.unknown = 1, 1, 2
    world.judge()
    assert world.paid == CALLS
    world.is_settled()


def test_calls_that_fail_or_expire_are_asked_in_one_more_batch_and_then_one_by_one(make_world: Callable[[str], World]) -> None:
    for times, batches in ((1, 2), (2, 2)):
        world = make_world(f"{times}")
        for api in (world.claude, world.gpt):
            api.batches.fate = share_of_fates({"errored": 0.3, "expired": 0.3}, times=times)
        world.judge()
        assert world.paid == CALLS
        assert len(world.claude.batches.created) == batches
        assert (world.claude.calls > 0) == (times == 2)
        world.is_settled()


def test_a_batch_that_does_not_end_in_time_is_canceled_and_the_rest_asked_one_by_one(world: World) -> None:
    world.claude.batches.held = True
    world.judge()
    assert world.claude.batches.created[0].fates
    assert world.paid == CALLS
    assert world.claude.calls == CALLS["anthropic"] - round(CALLS["anthropic"] / 2)
    world.is_settled()


def judged_until(world: World, seconds: float, reason: Exception) -> None:
    """An attempt that is told to stop after `seconds`."""
    cancellation, end = Cancellation(), world.now + timedelta(seconds=seconds)

    async def sleep(slept: float) -> None:
        world.now += timedelta(seconds=slept)
        if world.now > end:
            cancellation.cancel(reason)
        await asyncio.sleep(0)

    with world.patch.context() as patch:
        patch.setattr(world, "sleep", sleep)
        with pytest.raises(type(reason)):
            world.judge(cancellation=cancellation)


def hold(world: World, held: bool = True) -> None:
    world.claude.batches.held = world.gpt.batches.held = held


def test_a_stopped_stage_leaves_its_batches_running_and_the_next_attempt_goes_on(world: World) -> None:
    hold(world)
    judged_until(world, 40, StoppedError())
    assert {batch.status for api in (world.claude, world.gpt) for batch in api.batches.created} == {"in_progress"}
    assert len(world.reserved()) == 2
    hold(world, False)
    world.judge()
    assert world.paid == CALLS
    assert len(world.claude.batches.created) == 1
    world.is_settled()


def test_switched_to_single_calls_an_open_batch_is_ended_and_its_responses_are_used(world: World) -> None:
    hold(world)
    judged_until(world, 40, StoppedError())
    world.judge(SINGLE)
    assert world.paid == CALLS
    assert 0 < world.claude.calls < CALLS["anthropic"]
    world.is_settled()


def test_an_interim_look_that_decides_cancels_the_open_batches_and_books_what_they_answered(world: World) -> None:
    hold(world)
    judged_until(world, 40, FutilityError())
    assert {batch.status for api in (world.claude, world.gpt) for batch in api.batches.created} == {"ended"}
    assert 0 < world.claude.paid < CALLS["anthropic"]
    assert world.claude.calls == 0
    world.is_settled()


def test_a_cap_that_covers_no_call_refuses_before_a_batch_is_created(world: World) -> None:
    with pytest.raises(BudgetExceededError, match="the cap per run is"):
        world.judge(max_usd="0.0001")
    assert world.claude.batches.created == world.gpt.batches.created == []
    assert world.bill == 0


def test_under_a_small_cap_batches_are_as_large_as_it_allows(world: World) -> None:
    world.judge(max_usd="0.3")
    assert len(world.claude.batches.created) > 1
    assert world.paid == CALLS
    assert world.booked() <= Decimal("0.3")
    world.is_settled()


def test_an_endpoint_without_batches_is_asked_call_by_call(world: World) -> None:
    refusal = {"type": "error", "error": {"type": "not_found_error", "message": "Not Found"}}
    world.claude.batches.refusal = world.gpt.batches.refusal = (404, refusal)
    world.judge()
    assert (world.claude.calls, world.gpt.calls) == (CALLS["anthropic"], CALLS["openai"])
    world.is_settled()


def test_progress_names_the_batch_its_counts_and_its_age(world: World) -> None:
    world.claude.batches.seconds = 150
    world.judge()
    batch = world.claude.batches.created[0].id
    assert f"judging: {CALLS['anthropic']} in batch {batch}, submitted 2 min ago" in world.notes


def test_prompts_that_many_calls_share_are_cached_for_an_hour(world: World) -> None:
    world.claude.input_tokens = None
    many = {"candidate": [conversation(number) for number in range(20)]}
    with world.patch.context() as patch:
        patch.setitem(ARMS, "candidate", many["candidate"])
        world.judge()
    bodies = [body for body in world.claude.bodies if is_judging(body) and "taskSuccess" in json.dumps(body["output_config"])]
    assert {block["cache_control"]["ttl"] for body in bodies for block in body["system"] if "cache_control" in block} == {"1h"}
    world.is_settled()
