"""Turns at computing, by which whatever else the event loop has to do comes in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """One task at a time computes, each in a round of the event loop of its own.

    A coroutine that never has to wait never yields: a worker that found all that it needs in memory would go through a thousand
    keys in one round, a hundred polls of pods that have answered would be taken over in another, and for those seconds there would
    be no watch, and no renewal of the Lease.
    """

    def __init__(self) -> None:
        self._computing = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for its turn and for all else that is due, and lasts until the end of the block, which should not wait."""
        async with self._computing:
            await asyncio.sleep(0)
            yield
