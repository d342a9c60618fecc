"""Many small jobs in one mixed order: what is compared must not be done one after the other, because hosted models drift."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


async def shuffled(
    jobs: Sequence[Job], do: Callable[[Job], Awaitable[Result]], *, seed: int, concurrency: int,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Result]:  # fmt: skip
    """``do`` of every job, in the jobs' order, though they are begun in an order drawn from the seed.

    After a failure none is begun; those under way come to their end, so that what they paid is kept. Then it is raised.
    """
    order = random.Random(f"evaluate/{seed}/order").sample(range(len(jobs)), len(jobs))
    found: dict[int, Result] = {}
    failures: list[BaseException] = []

    async def work() -> None:
        while order and not failures:
            at = order.pop()
            try:
                found[at] = await do(jobs[at])
            except Exception as error:
                failures.append(error)
            else:
                on_done(len(found))

    await asyncio.gather(*(work() for _ in range(concurrency)))
    if failures:
        raise failures[0]
    return [found[at] for at in range(len(jobs))]
