"""How a stage ends early: signals, and the rule that no call begins after one while calls in progress finish."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a stage that a signal ended."""
STOP_SECONDS = 22.0
"""Time for calls in progress when a stage ends early: a little more than workers need, less than kubelet allows."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The work was stopped; what is finished and paid is kept."""


class Cancellation:
    """A reason why nothing more may begin; the first one stays. Cancelling `parent` cancels its children too."""

    def __init__(self, parent: "Cancellation | None" = None) -> None:
        self.reason: Exception | None = None
        self._parent = parent
        self._cancelled = asyncio.Event()

    def cancel(self, reason: Exception) -> None:
        """Lets nothing more begin."""
        self.reason = self.reason or reason
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called here or on a parent."""
        return self.reason is not None or (self._parent is not None and self._parent.cancelled)

    async def wait(self) -> None:
        """Returns once `cancel` was called on this object; a parent's cancellation does not wake it."""
        await self._cancelled.wait()

    def raise_if_cancelled(self) -> None:
        """Raises the reason, if there is one; a parent's comes first."""
        if self._parent is not None:
            self._parent.raise_if_cancelled()
        if self.reason is not None:
            raise self.reason


def exit_on_signals() -> None:
    """Makes SIGTERM and SIGINT raise SystemExit in the main thread. Process 1 of a container would ignore SIGTERM otherwise."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: sys.exit(TERMINATED))


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Puts back the handlers of SIGTERM and SIGINT that the block replaces. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def cancelled_by_signals() -> Iterator[Cancellation]:
    """A cancellation triggered by SIGTERM or SIGINT, for use in a task; after `STOP_SECONDS` the task itself is cancelled.

    Raises StoppedError then.
    """
    cancellation, loop, task = Cancellation(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        cancellation.cancel(StoppedError())
        loop.call_later(STOP_SECONDS, task.cancel)

    with signal_handlers_kept():
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            yield cancellation
        except asyncio.CancelledError:
            cancellation.raise_if_cancelled()
            raise
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


@contextmanager
def on_sigterm(action: Callable[[], None]) -> Iterator[threading.Event]:
    """Calls ``action`` at SIGTERM, and sets the event. Does nothing outside the main thread."""
    received = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        received.set()
        action()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handler = signal.signal(signal.SIGTERM, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, handler)
