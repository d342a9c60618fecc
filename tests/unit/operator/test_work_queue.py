"""The queue: each key once, one worker per key, failures later and later. Time is the event loop's own."""

import asyncio
import random

from subterra_operator.work_queue import FIRST_BACKOFF, LAST_BACKOFF, KeyQueue


async def nothing_due(queue: KeyQueue[str]) -> bool:
    """Whether `get` has nothing to give now."""
    try:
        await asyncio.wait_for(queue.get(), 0.02)
    except TimeoutError:
        return True
    return False


async def test_a_key_that_is_added_twice_is_taken_once() -> None:
    queue: KeyQueue[str] = KeyQueue()
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert await nothing_due(queue)


async def test_nobody_works_on_a_key_that_somebody_works_on() -> None:
    queue: KeyQueue[str] = KeyQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert await nothing_due(queue)
    queue.done("a")
    assert await queue.get() == "a"


async def test_the_earlier_time_wins() -> None:
    queue: KeyQueue[str] = KeyQueue()
    queue.add("a", 60)
    queue.add("a", 0.01)
    queue.add("a", 30)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_a_time_that_is_due_while_the_key_is_worked_on_is_not_lost() -> None:
    queue: KeyQueue[str] = KeyQueue()
    queue.add("a")
    await queue.get()
    queue.add("a", 0.005)
    assert await nothing_due(queue)
    queue.done("a")
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_other_keys_pass_one_that_is_worked_on() -> None:
    queue: KeyQueue[str] = KeyQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("b")
    assert await asyncio.wait_for(queue.get(), 1) == "b"


async def test_failures_wait_longer_each_time_up_to_a_bound_and_success_forgets_them() -> None:
    queue: KeyQueue[str] = KeyQueue(random.Random(1))
    delays = [queue.retry_later("a") for _ in range(20)]
    assert all(FIRST_BACKOFF / 2 <= delay <= LAST_BACKOFF for delay in delays)
    assert delays[-1] >= LAST_BACKOFF / 2
    queue.done("a")
    assert queue.retry_later("a") <= FIRST_BACKOFF
