"""The bench of the three stages without a cluster: what it reads of memory, and whom it asks for a run."""

import threading
from pathlib import Path

import pytest
from bench.pipeline.memory import PeakMemory, available_kib

MEMORY = "MemTotal:       24689484 kB\nMemFree:        15389440 kB\nMemAvailable:   {} kB\n"


def test_the_available_memory_is_read_from_the_kernels_table() -> None:
    assert available_kib(MEMORY.format(23068672)) == 23068672


def test_the_peak_is_the_worst_moment_against_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, read = tmp_path / "meminfo", threading.Event()
    table.write_text(MEMORY.format(8 * 2**20))
    monkeypatch.setattr("bench.pipeline.memory.EVERY_SECONDS", 0.001)

    class Watched(type(table)):  # type: ignore[misc]
        def read_text(self) -> str:  # type: ignore[override]
            text = table.read_text()
            if str(3 * 2**20) in text:
                read.set()
            return text

    with PeakMemory(Watched(table)) as memory:
        table.write_text(MEMORY.format(3 * 2**20))
        assert read.wait(10)
    assert memory.gib == 5.0
