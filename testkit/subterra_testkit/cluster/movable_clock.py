"""A clock for decisions that tests set forward, so that nobody waits for a real deadline."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta


class MovableClock:
    """The current time, or a later one."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        """Sets the clock forward for good."""
        self._ahead += timedelta(seconds=seconds)

    @contextmanager
    def ahead(self, seconds: float) -> Iterator[None]:
        """The clock is fast by `seconds` within the block."""
        self.advance(seconds)
        try:
            yield
        finally:
            self.advance(-seconds)
