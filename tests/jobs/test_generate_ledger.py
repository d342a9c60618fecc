"""Money: reserved before, settled after, remembered for ever."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_jobs.common.store import ArtifactStore
from subterra_jobs.generate.ledger import Ledger, LedgerPurse


def ledger(store: str) -> Ledger:
    return Ledger(ArtifactStore(store), "uid-1")


def paid(usd: str) -> dict[str, object]:
    return {"stage": "generate", "usd": usd, "tokens": 10}


@pytest.fixture(params=["volume", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return tmp_path.as_uri() if request.param == "volume" else f"memory://{tmp_path}"


async def test_spend_survives_a_restart(store: str) -> None:
    purse = LedgerPurse(ledger(store), Decimal(1))
    for _ in range(3):
        receipt = await purse.reserve("w", Decimal("0.3"))
        assert receipt is not None
        await purse.settle(receipt, paid("0.1"))
    again = LedgerPurse(ledger(store), Decimal(1))
    assert again.spent == Decimal("0.3")
    assert await again.totals() == (Decimal("0.3"), 30)


async def test_what_another_stage_paid_counts_against_the_cap_but_not_as_generation(store: str) -> None:
    ledger(store).append([{"stage": "evaluate", "usd": "0.9", "tokens": 5}])
    purse = LedgerPurse(ledger(store), Decimal(1))
    assert await purse.reserve("w", Decimal("0.2")) is None
    assert await purse.totals() == (Decimal(0), 0)


async def test_a_line_cut_by_a_kill_harms_neither_the_lines_before_nor_after(tmp_path: Path) -> None:
    ledger(tmp_path.as_uri()).append([paid("0.1")])
    file = tmp_path / "ledger" / "uid-1.jsonl"
    file.write_text(file.read_text() + '{"stage": "gene')
    ledger(tmp_path.as_uri()).append([paid("0.2")])
    assert [entry["usd"] for entry in ledger(tmp_path.as_uri()).read()] == ["0.1", "0.2"]


async def test_a_reservation_waits_for_money_that_others_hold_back(tmp_path: Path) -> None:
    purse = LedgerPurse(ledger(tmp_path.as_uri()), Decimal(1))
    first = await purse.reserve("w", Decimal("0.8"))
    assert first is not None
    second = asyncio.create_task(purse.reserve("w", Decimal("0.8")))
    await asyncio.sleep(0.01)
    assert not second.done()
    await purse.settle(first, paid("0.1"))
    assert await second is not None


async def test_a_reservation_that_can_never_be_met_is_refused_at_once(tmp_path: Path) -> None:
    purse = LedgerPurse(ledger(tmp_path.as_uri()), Decimal(1))
    assert await purse.reserve("w", Decimal("0.5")) is not None
    assert await purse.reserve("w", Decimal("1.1")) is None


async def test_a_call_that_cost_nothing_gives_its_reservation_back(tmp_path: Path) -> None:
    purse = LedgerPurse(ledger(tmp_path.as_uri()), Decimal(1))
    for _ in range(5):
        receipt = await purse.reserve("w", Decimal(1))
        assert receipt is not None
        await purse.settle(receipt, None)
    assert purse.spent == 0


async def test_what_a_dead_worker_held_counts_as_spent(tmp_path: Path) -> None:
    purse = LedgerPurse(ledger(tmp_path.as_uri()), Decimal(1))
    await purse.reserve("dead", Decimal("0.4"))
    await purse.reserve("alive", Decimal("0.4"))
    await purse.forfeit("dead")
    assert purse.spent == Decimal("0.4")
    assert LedgerPurse(ledger(tmp_path.as_uri()), Decimal(1)).spent == Decimal("0.4")
