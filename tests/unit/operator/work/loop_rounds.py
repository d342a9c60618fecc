"""Rounds of the event loop, counted: who computed in which."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Rounds:
    """The number of the present round."""

    def __init__(self) -> None:
        self.number = 0

    async def count(self) -> None:
        """Counts until cancelled."""
        while True:
            self.number += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def counted_rounds() -> AsyncIterator[Rounds]:
    """Counts the rounds of the block."""
    rounds = Rounds()
    counting = asyncio.create_task(rounds.count())
    yield rounds
    counting.cancel()
