"""The queue: each key once, one worker per key, tenants in turn, failures later and later. Time is the event loop's own."""

import asyncio
import random

import pytest

from subterra_operator.work.work_queue import FIRST_BACKOFF, LAST_BACKOFF, KeyQueue


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


async def test_a_key_whose_cause_may_be_mended_waits_as_after_a_first_failure_also_if_a_worker_has_it() -> None:
    queue: KeyQueue[str] = KeyQueue()
    for _ in range(12):
        queue.retry_later("a")
    queue.add("a")
    await queue.get()
    queue.forget_failures("a")
    assert queue.retry_later("a") <= FIRST_BACKOFF
    assert [queue.retry_later("a") for _ in range(12)][-1] >= LAST_BACKOFF / 2, "one edit is no licence for a loop"


def by_namespace() -> KeyQueue[str]:
    """A queue of keys such as ``flood/1``."""
    return KeyQueue(tenant=lambda key: key.partition("/")[0])


async def test_tenants_take_turns_and_each_keeps_the_order_of_its_keys() -> None:
    queue = by_namespace()
    for key in ("a/1", "a/2", "a/3", "b/1", "b/2", "c/1"):
        queue.add(key)
    assert [await queue.get() for _ in range(6)] == ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]


async def test_who_was_served_longest_ago_comes_first() -> None:
    queue = by_namespace()
    for number in range(5):
        queue.add(f"flood/{number}")
    assert await queue.get() == "flood/0"
    queue.add("quiet/1")
    assert await queue.get() == "quiet/1"
    queue.add("quiet/2")
    assert [await queue.get(), await queue.get()] == ["flood/1", "quiet/2"]


async def test_a_key_that_is_due_later_waits_for_its_time_not_for_its_turn() -> None:
    queue = by_namespace()
    queue.add("a/later", 0.01)
    queue.add("a/now")
    queue.add("b/now")
    assert [await queue.get() for _ in range(3)] == ["a/now", "b/now", "a/later"]
    assert len(queue) == 0


async def test_a_key_that_is_worked_on_keeps_its_tenant_from_nothing() -> None:
    queue = by_namespace()
    queue.add("a/1")
    await queue.get()
    queue.add("a/1", 0.001)
    queue.add("a/2", 0.002)
    assert await asyncio.wait_for(queue.get(), 1) == "a/2"
    queue.done("a/1")
    assert await asyncio.wait_for(queue.get(), 1) == "a/1"


@pytest.mark.parametrize("workers", [1, 4])
async def test_two_hundred_slow_keys_of_one_namespace_delay_another_by_one_reconcile_per_worker(workers: int) -> None:
    queue, finished = by_namespace(), list[str]()
    for number in range(200):
        queue.add(f"flood/{number}")
    slow = asyncio.Semaphore(0)

    async def work() -> None:
        while True:
            key = await queue.get()
            if key.startswith("flood"):
                await slow.acquire()
            finished.append(key)
            queue.done(key)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await asyncio.sleep(0)
    queue.add("quiet/1")
    while "quiet/1" not in finished:
        slow.release()
        await asyncio.sleep(0)
    assert finished.index("quiet/1") <= workers
    for task in tasks:
        task.cancel()
