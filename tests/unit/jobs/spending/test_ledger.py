"""Money: reserved before, settled after, remembered for ever."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.unit.jobs.spending.paying_runs import PayingRuns, pay

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store import append_log
from subterra_jobs.store.artifact_store import ArtifactStore

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class World(PayingRuns):
    """Runs of the agent `travel`."""

    def ledger(self, run: str = "1", agent: str | None = "travel") -> Ledger:
        return self.ledger_of(_identity(run, agent))

    def guard(
        self,
        run: str = "1",
        *,
        cap: str | None = None,
        monthly: str | None = None,
        stage: Stage = "generate",
        agent: str | None = "travel",
        check: Callable[[], None] = lambda: None,
    ) -> BudgetGuard:
        budget = Budget(max_usd=cap, max_usd_per_30_days=monthly)
        return self.guard_of(_identity(run, agent), budget, stage, check)


def _identity(run: str, agent: str | None) -> RunIdentity:
    return RunIdentity(name=f"travel-{run}", namespace="demo", uid=f"uid-{run}", agent=agent)


@pytest.fixture
def world(store_uri: str) -> World:
    return World(store_uri, NOON)


async def test_spend_survives_a_restart(world: World) -> None:
    guard = world.guard()
    for _ in range(3):
        await pay(guard, "0.1", reserved="0.3")
    again = world.guard()
    assert again.spent == Decimal("0.3")
    assert await again.totals() == (Decimal("0.3"), 30)


async def test_what_another_stage_paid_counts_against_the_cap_but_not_as_its_own(world: World) -> None:
    await pay(world.guard(stage="generate"), "0.9")
    guard = world.guard(stage="evaluate", cap="1")
    with pytest.raises(BudgetExceededError):
        await guard.reserve(Decimal("0.2"))
    assert await guard.totals() == (Decimal(0), 0)


async def test_a_full_file_is_followed_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_log, "SEGMENT_BYTES", 200)
    guard = world.guard()
    for _ in range(5):
        await pay(guard, "0.1")
    assert len(ArtifactStore(world.uri).sizes("ledger/agent-travel/uid-1")) == 3
    assert world.guard().spent == Decimal("0.5")


async def test_a_reservation_waits_for_money_that_others_hold_back(world: World) -> None:
    guard = world.guard(cap="1")
    first = await guard.reserve(Decimal("0.8"))
    second = asyncio.create_task(guard.reserve(Decimal("0.8")))
    await asyncio.sleep(0.01)
    assert not second.done()
    await guard.commit(first, {"usd": "0.1", "tokens": 1})
    await second


async def test_a_reservation_that_can_never_be_met_is_refused_at_once(world: World) -> None:
    guard = world.guard(cap="1")
    await guard.reserve(Decimal("0.5"))
    with pytest.raises(BudgetExceededError):
        await guard.reserve(Decimal("1.1"))


async def test_a_call_that_cost_nothing_gives_its_reservation_back(world: World) -> None:
    guard = world.guard(cap="1")
    for _ in range(5):
        await guard.commit(await guard.reserve(Decimal(1)), None)
    assert guard.spent == 0


async def test_what_a_dead_worker_held_counts_as_spent(world: World) -> None:
    dead = world.guard(cap="1")
    await dead.reserve(Decimal("0.4"))
    await dead.reserve(Decimal("0.2"))
    successor = world.guard(cap="1")
    await successor.write_off(dead.reserved)
    assert successor.spent == Decimal("0.6")
    assert world.guard().spent == Decimal("0.6")


async def test_the_refusal_has_the_arithmetic_the_time_and_the_field_to_raise(world: World) -> None:
    guard = world.guard(cap="1")
    await pay(guard, "0.4000005")
    world.wait(hours=2)
    await pay(guard, "0.5")
    with pytest.raises(BudgetExceededError) as refused:
        await guard.reserve(Decimal("0.2"))
    assert str(refused.value) == (
        "the cap per run is $1: run travel-1 paid $0.9000005 since 2026-11-20 12:00 UTC, $0.0999995 is left, and the next call "
        "could cost $0.2; raise spec.budget.maxUSDPerRun of agent travel"
    )


async def test_all_runs_of_an_agent_share_its_30_days_and_other_agents_do_not(world: World) -> None:
    await pay(world.guard("1"), "0.5")
    await pay(world.guard("2"), "0.4")
    await pay(world.guard("3", agent="other"), "9")
    guard = world.guard("4", monthly="1")
    await pay(guard, "0.1")
    with pytest.raises(BudgetExceededError, match=r"^the cap per 30 days is \$1: agent travel paid \$1 since .*\$0 is left"):
        await guard.reserve(Decimal("0.1"))


async def test_a_run_without_an_agent_is_billed_by_itself(world: World) -> None:
    await pay(world.guard("1", agent=None), "0.9")
    await pay(world.guard("2", agent=None, monthly="1"), "0.9")
    with pytest.raises(
        BudgetExceededError, match=r"run travel-2 paid \$0\.9 .* raise spec\.execution\.maxUSDPer30Days of run travel-2"
    ):
        await world.guard("2", agent=None, monthly="1").reserve(Decimal("0.2"))


async def test_what_is_older_than_30_days_counts_for_the_run_only(world: World) -> None:
    await pay(world.guard(), "0.9")
    world.wait(days=29, hours=23)
    guard = world.guard(monthly="1")
    with pytest.raises(BudgetExceededError, match=r"or wait until 2026-12-20 12:01 UTC, when enough of it is older than 30 days$"):
        await guard.reserve(Decimal("0.2"))
    world.wait(hours=1)
    await guard.reserve(Decimal("0.2"))
    with pytest.raises(BudgetExceededError, match="the cap per run"):
        await world.guard(cap="1", monthly="1").reserve(Decimal("0.2"))


async def test_a_call_that_no_waiting_makes_possible_is_told_no_time(world: World) -> None:
    with pytest.raises(BudgetExceededError, match=r"agent travel$"):
        await world.guard(monthly="1").reserve(Decimal(2))


async def test_what_another_run_pays_at_the_same_time_is_seen_after_a_second(world: World) -> None:
    one, two = world.guard("1", monthly="1"), world.guard("2", monthly="1")
    await pay(two, "0.9")
    world.wait(seconds=1)
    with pytest.raises(BudgetExceededError, match=r"agent travel paid \$0\.9"):
        await one.reserve(Decimal("0.2"))


async def test_two_runs_that_pay_in_turns_never_exceed_their_30_days(world: World) -> None:
    one, two = world.guard("1", monthly="1"), world.guard("2", monthly="1")
    for _ in range(7):
        await pay(one, "0.07")
        world.wait(seconds=1)
        await pay(two, "0.07")
        world.wait(seconds=1)
    for guard in (one, two):
        with pytest.raises(BudgetExceededError, match=r"paid \$0\.98 since"):
            await pay(guard, "0.07")
    assert sum(payment.usd for payment in world.ledger().new_payments()) == Decimal("0.98")


async def test_nothing_is_paid_after_the_lease_is_lost(world: World) -> None:
    def lost_after_a_second() -> None:
        if world.seconds:
            raise InfrastructureError("another job has taken over")

    guard = world.guard(check=lost_after_a_second)
    await pay(guard, "0.1")
    world.wait(seconds=1)
    with pytest.raises(InfrastructureError, match="taken over"):
        await guard.reserve(Decimal("0.1"))


def test_a_line_that_cannot_be_read_harms_no_other(world: World) -> None:
    ledger = world.ledger()
    entry = {"run": "uid-1", "stage": "generate", "at": NOON.isoformat(), "usd": "0.1", "tokens": 1}
    ledger.append([entry, {"usd": "no number"}, entry])
    assert [payment.usd for payment in world.ledger().new_payments()] == [Decimal("0.1")] * 2
