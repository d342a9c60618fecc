"""Looks on the way: blocks without a gap between them, and an end where nothing can be won any more."""

import asyncio
from collections.abc import Sequence

import pytest

from subterra_jobs.evaluate.scheduling import Schedule, block_slices, run_in_blocks, run_shuffled
from subterra_jobs.stage.cancellation import Cancellation, StoppedError

PARTS = block_slices(30, 10)


class Play:
    """Plays customers, a few at a time, and remembers the order."""

    def __init__(self, fails_at: int | None = None, slow: int | None = None) -> None:
        self.begun: list[int] = []
        self.second_block = asyncio.Event()
        self._slots, self._fails_at, self._slow = asyncio.Semaphore(4), fails_at, slow

    async def block(self, part: slice, cancellation: Cancellation) -> list[int]:
        return await run_shuffled(range(30)[part], self.one, Schedule(1, self._slots, cancellation))

    async def one(self, customer: int) -> int:
        self.begun.append(customer)
        if customer >= 10:
            self.second_block.set()
        if customer == self._fails_at:
            raise RuntimeError(f"{customer} failed")
        if customer == self._slow:
            await self.second_block.wait()
        await asyncio.sleep(0)
        return customer


def never(found: Sequence[list[int]]) -> bool:
    return False


def test_blocks_cover_all_and_the_last_may_be_smaller() -> None:
    assert block_slices(250, 100) == [slice(0, 100), slice(100, 200), slice(200, 250)]
    assert block_slices(100, 100) == [slice(0, 100)]


async def test_all_blocks_are_played_and_an_earlier_one_goes_first() -> None:
    play = Play()
    assert await run_in_blocks(PARTS, play.block, never, Cancellation()) == [[*range(30)[part]] for part in PARTS]
    assert [customer // 10 for customer in play.begun] == sorted(customer // 10 for customer in play.begun)


async def test_a_block_does_not_wait_for_the_slowest_of_the_one_before() -> None:
    async with asyncio.timeout(30):
        assert len(await run_in_blocks(PARTS, Play(slow=7).block, never, Cancellation())) == 3


async def test_a_hopeless_block_ends_it_and_what_comes_later_is_not_counted() -> None:
    play, looks = Play(), list[int]()

    def hopeless(found: Sequence[list[int]]) -> bool:
        looks.append(len(found))
        return True

    assert await run_in_blocks(PARTS, play.block, hopeless, Cancellation()) == [[*range(10)]]
    assert looks == [1]
    assert len(play.begun) < 20


async def test_the_last_block_is_no_occasion_to_give_up() -> None:
    looks = list[int]()

    def hopeless(found: Sequence[list[int]]) -> bool:
        looks.append(len(found))
        return False

    assert len(await run_in_blocks(PARTS, Play().block, hopeless, Cancellation())) == 3
    assert looks == [1, 2]


async def test_a_failure_in_one_block_halts_the_others_and_is_raised() -> None:
    play = Play(fails_at=14)
    with pytest.raises(RuntimeError, match="14 failed"):
        await run_in_blocks(PARTS, play.block, never, Cancellation())
    assert max(play.begun) < 20


async def test_told_to_stop_it_begins_nothing_more() -> None:
    whole, play = Cancellation(), Play()
    whole.cancel(StoppedError())
    with pytest.raises(StoppedError):
        await run_in_blocks(PARTS, play.block, never, whole)
    assert play.begun == []
