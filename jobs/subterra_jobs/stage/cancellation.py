"""How a stage that pays ends early: no further call begins, and what is under way is kept."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from subterra_jobs.stage.runner import STOP_SECONDS

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The process was told to stop."""


class Halt:
    """Why nothing more may begin; the first reason stays. Part of a larger work halts with the whole."""

    def __init__(self, whole: "Halt | None" = None) -> None:
        self.because: Exception | None = None
        self._whole = whole

    def say(self, because: Exception) -> None:
        """Lets nobody begin anything more."""
        self.because = self.because or because

    def check(self) -> None:
        """Raises the reason, if there is one."""
        if self._whole is not None:
            self._whole.check()
        if self.because is not None:
            raise self.because


@contextmanager
def halting() -> Iterator[Halt]:
    """A halt that signals bring about, inside of a task; after `STOP_SECONDS` the task itself is cancelled.

    Raises StoppedError then.
    """
    halt, loop, task = Halt(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop() -> None:
        halt.say(StoppedError())
        loop.call_later(STOP_SECONDS, task.cancel)

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield halt
    except asyncio.CancelledError:
        halt.check()
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
