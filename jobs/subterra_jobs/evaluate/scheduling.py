"""Many small jobs in one mixed order: what is compared must not be done one after the other, because hosted models drift."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from subterra_jobs.stage.cancellation import Halt

Job = TypeVar("Job")
Result = TypeVar("Result")


async def shuffled(
    jobs: Sequence[Job], do: Callable[[Job], Awaitable[Result]], *, seed: int, slots: asyncio.Semaphore, halt: Halt,
    on_done: Callable[[], None] = lambda: None,
) -> list[Result]:  # fmt: skip
    """``do`` of every job, in the jobs' order, though they are begun in an order drawn from the seed.

    Batches that share ``slots`` are begun one after the other, without a gap between them. After a failure, or once ``halt`` says
    so, no job is begun; those under way come to their end, so that what they paid is kept. Then the reason is raised.
    """

    async def one(at: int) -> Result:
        async with slots:
            halt.check()
            try:
                found = await do(jobs[at])
            except Exception as error:
                halt.say(error)
                raise
            on_done()
            return found

    order = random.Random(f"evaluate/{seed}/order").sample(range(len(jobs)), len(jobs))
    found = dict(zip(order, await asyncio.gather(*map(one, order), return_exceptions=True), strict=True))
    halt.check()
    return [_sound(found[at]) for at in range(len(jobs))]


def _sound(found: Result | BaseException) -> Result:
    if isinstance(found, BaseException):
        raise found
    return found
