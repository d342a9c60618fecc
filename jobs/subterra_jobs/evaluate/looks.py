"""Scenarios in blocks, with a look after each: a candidate that is far out of reach is given up, none is let in early."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import TypeVar

from subterra_jobs.stage.cancellation import Halt

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
