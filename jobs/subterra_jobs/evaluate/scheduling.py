"""Many small jobs in one mixed order: what is compared must not be done one after the other, because hosted models drift."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
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


Block = TypeVar("Block")


class OutOfReachError(Exception):
    """The candidate cannot pass any more, so the rest is not worth its price."""


def blocks(scenarios: int, size: int) -> list[slice]:
    """Blocks of ``size``; the last may be smaller."""
    return [slice(start, min(start + size, scenarios)) for start in range(0, scenarios, size)]


async def in_blocks(
    parts: Sequence[slice], do: Callable[[slice, Halt], Awaitable[Block]], hopeless: Callable[[Sequence[Block]], bool], whole: Halt,
) -> list[Block]:  # fmt: skip
    """What ``do`` makes of each part, in their order; only of the first ones, if by these it is ``hopeless``.

    All parts are begun at once, so that nothing stands still between them; what they share lets the earlier one go first. ``do``
    begins nothing more once the halt that it is given says so. Raises the first failure once all have come to their end.
    """
    halt, found = Halt(whole), dict[int, Block]()
    enough = len(parts)

    async def one(at: int) -> None:
        nonlocal enough
        try:
            found[at] = await do(parts[at], halt)
        except Exception as error:
            halt.say(error)
            raise
        first = [found[i] for i in takewhile(found.__contains__, range(len(parts)))]
        if at < len(first) < enough and hopeless(first):
            enough = len(first)
            halt.say(OutOfReachError())

    await asyncio.gather(*map(one, range(len(parts))), return_exceptions=True)
    if not isinstance(halt.because, OutOfReachError):
        halt.check()
    return [found[at] for at in range(enough)]
