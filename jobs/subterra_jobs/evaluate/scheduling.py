"""Concurrent jobs in shuffled order: arms that are compared must not run one after the other, because hosted models drift."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from subterra_jobs.stage.cancellation import Cancellation

Job = TypeVar("Job")
JobResult = TypeVar("JobResult")
BlockResult = TypeVar("BlockResult")


@dataclass(frozen=True)
class Schedule:
    """How jobs run: the seed of their order, a bound on concurrency, what may stop them, and what to call after each."""

    seed: int
    semaphore: asyncio.Semaphore
    cancellation: Cancellation
    on_done: Callable[[], None] = lambda: None


async def run_shuffled(jobs: Sequence[Job], run: Callable[[Job], Awaitable[JobResult]], schedule: Schedule) -> list[JobResult]:
    """Results of `run` for every job, in the jobs' order; the jobs start in an order drawn from the seed.

    Batches that share a semaphore start one after the other without a gap. After a failure, or once it is cancelled, no further
    job starts; running jobs finish, so that what they paid for is kept. Then the reason is raised.
    """

    async def run_at(index: int) -> JobResult:
        async with schedule.semaphore:
            schedule.cancellation.raise_if_cancelled()
            try:
                result = await run(jobs[index])
            except Exception as error:
                schedule.cancellation.cancel(error)
                raise
            schedule.on_done()
            return result

    order = random.Random(f"evaluate/{schedule.seed}/order").sample(range(len(jobs)), len(jobs))
    results = dict(zip(order, await asyncio.gather(*map(run_at, order), return_exceptions=True), strict=True))
    schedule.cancellation.raise_if_cancelled()
    return [_raise_if_failed(results[index]) for index in range(len(jobs))]


def _raise_if_failed(result: JobResult | BaseException) -> JobResult:
    if isinstance(result, BaseException):
        raise result
    return result


class FutilityError(Exception):
    """The candidate can no longer pass, so the rest is not worth its cost."""


def block_slices(scenarios: int, size: int) -> list[slice]:
    """Slices of `size` scenarios; the last may be smaller."""
    return [slice(start, min(start + size, scenarios)) for start in range(0, scenarios, size)]


async def run_in_blocks(
    slices: Sequence[slice],
    run: Callable[[slice, Cancellation], Awaitable[BlockResult]],
    is_futile: Callable[[Sequence[BlockResult]], bool],
    parent: Cancellation,
) -> list[BlockResult]:
    """Results of `run` for each block, in order; only the first ones if an interim look at them `is_futile`.

    All blocks start at once, so that there is no idle time between them; the semaphore they share favors the earlier ones. `run`
    starts nothing more once its cancellation says so. Raises the first failure once all have finished.
    """
    cancellation, results = Cancellation(parent), dict[int, BlockResult]()
    needed = len(slices)

    async def run_at(index: int) -> None:
        nonlocal needed
        try:
            results[index] = await run(slices[index], cancellation)
        except Exception as error:
            cancellation.cancel(error)
            raise
        first = [results[i] for i in takewhile(results.__contains__, range(len(slices)))]
        if index < len(first) < needed and is_futile(first):
            needed = len(first)
            cancellation.cancel(FutilityError())

    await asyncio.gather(*map(run_at, range(len(slices))), return_exceptions=True)
    if not isinstance(cancellation.reason, FutilityError):
        cancellation.raise_if_cancelled()
    return [results[index] for index in range(needed)]
