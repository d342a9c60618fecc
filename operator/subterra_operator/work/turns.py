"""Turns at computing, by which whatever else the event loop has to do comes in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """One task at a time computes, each in a round of the event loop of its own.

    A decision on a large Procedure takes a tenth of a second. If all workers and a hundred polls of pods took theirs in each round,
    the renewal of the Lease, which takes several rounds, would be late, and so would be watches.
    """

    def __init__(self) -> None:
        self._computing = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for its turn and for all else that is due, and lasts until the end of the block, which should not wait."""
        async with self._computing:
            await asyncio.sleep(0)
            yield
