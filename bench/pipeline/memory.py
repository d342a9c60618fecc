"""How much memory of the machine was in use at most."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_SECONDS = 1.0
_MEMORY = Path("/proc/meminfo")


class PeakMemory:
    """Watches the machine's memory while its block runs; ``gib`` is the most that was added to what others use."""

    def __init__(self, source: Path = _MEMORY) -> None:
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = self._least = available_kib(source.read_text())

    @property
    def gib(self) -> float:
        """GiB that were available before the block and were not at its worst moment."""
        return (self._before - self._least) / 2**20

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self._least = min(self._least, available_kib(self._source.read_text()))


def available_kib(text: str) -> int:
    """``MemAvailable`` of /proc/meminfo's text."""
    line = next(line for line in text.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1])
