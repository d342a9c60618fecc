"""Progress lines on standard error."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVERY_SECONDS = 15.0


def _write(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass
class Progress:
    """Writes lines; of frequent ones it leaves out those that come too soon after another."""

    write: Callable[[str], None] = _write
    clock: Callable[[], float] = time.monotonic
    _last: float = field(default=float("-inf"), init=False)

    def say(self, line: str) -> None:
        """Writes the line at once."""
        self._last = self.clock()
        self.write(line)

    def step(self, line: str) -> None:
        """Writes the line unless another was written in the last seconds."""
        if self.clock() - self._last >= EVERY_SECONDS:
            self.say(line)
