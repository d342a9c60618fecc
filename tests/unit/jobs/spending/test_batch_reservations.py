"""What a batch may cost stays reserved in the ledger until it has ended, whichever process began it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.spending.budget import BudgetGuard, Clocks
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
CALL = Decimal("0.4")


def run_named(name: str, agent: str = "travel") -> RunIdentity:
    return RunIdentity(name=name, namespace="demo", uid=f"uid-{name}", agent=agent)


def guard(
    store: Path, run: str = "one", *, cap: str | None = None, monthly: str | None = None, now: datetime = NOON
) -> BudgetGuard:
    budget = Budget(max_usd=cap, max_usd_per_30_days=monthly)
    clocks = Clocks(lambda: now, lambda: 0.0)
    return BudgetGuard(Ledger(ArtifactStore(store.as_uri()), run_named(run)), "evaluate", budget, clocks=clocks)


async def test_a_batch_takes_as_many_calls_as_the_cap_leaves_room_for(tmp_path: Path) -> None:
    assert await guard(tmp_path, cap="1").reserve_batch("b", [CALL] * 5) == 2


async def test_a_cap_that_covers_no_call_refuses_the_batch(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceededError):
        await guard(tmp_path, cap="0.3").reserve_batch("b", [CALL] * 5)


async def test_a_later_process_still_counts_what_an_open_batch_may_cost(tmp_path: Path) -> None:
    await guard(tmp_path, cap="1").reserve_batch("b", [CALL] * 2)
    later = guard(tmp_path, cap="1")
    assert later.reserved == Decimal("0.8")
    assert later.batches.open("uid-one") == ["b"]
    assert await later.totals() == (Decimal(0), 0)


async def test_another_run_of_the_agent_counts_it_against_the_30_days(tmp_path: Path) -> None:
    await guard(tmp_path).reserve_batch("b", [CALL] * 2)
    with pytest.raises(BudgetExceededError, match="the cap per 30 days"):
        await guard(tmp_path, "two", monthly="1").reserve(CALL)
    later = guard(tmp_path, "two", monthly="1", now=NOON + timedelta(days=31))
    await later.reserve(CALL)


async def test_the_end_of_a_batch_is_booked_once_however_often_it_is_reported(tmp_path: Path) -> None:
    first = guard(tmp_path)
    await first.reserve_batch("b", [CALL] * 2)
    for _ in range(2):
        await first.end_batch("b", run_named("one"), [{"usd": "0.1", "tokens": 7}])
    await guard(tmp_path).end_batch("b", run_named("one"), [{"usd": "0.1", "tokens": 7}])
    last = guard(tmp_path)
    assert (last.spent, last.reserved, await last.totals()) == (Decimal("0.1"), Decimal(0), (Decimal("0.1"), 7))


async def test_a_batch_is_booked_where_it_was_reserved_though_another_agents_run_ends_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    other = run_named("theirs", agent="zoom")
    theirs = BudgetGuard(Ledger(store, other), "evaluate", Budget())
    await theirs.reserve_batch("b", [CALL])
    for _ in range(2):
        await guard(tmp_path).end_batch("b", other, [{"usd": "0.1", "tokens": 7}])
    again = BudgetGuard(Ledger(store, other), "evaluate", Budget())
    assert (again.spent, again.reserved) == (Decimal("0.1"), Decimal(0))
    assert guard(tmp_path).spent == 0


async def test_the_share_of_the_input_that_caches_saved_is_counted_over_all_attempts(tmp_path: Path) -> None:
    first = guard(tmp_path)
    assert first.cached_share is None
    for read in (0, 600):
        number = await first.reserve(CALL)
        await first.commit(number, {"usd": "0.1", "tokens": 900, "input": 300, "cacheWrite": 600 - read, "cacheRead": read})
    assert guard(tmp_path).cached_share == pytest.approx(1 / 3)
