"""What tests of engines have in common: they compute, while tests of deadlines in the other processes wait."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

LESS_URGENT = 10
"""By how much engines are nicer than an operator that must take over within seconds."""


@contextmanager
def less_urgent() -> Iterator[None]:
    """Processes that are started in this context take what the other tests leave of the processors."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before + LESS_URGENT)
    try:
        yield
    finally:
        with suppress(PermissionError):  # only root may become more urgent again
            os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture(scope="module", autouse=True)
def last_in_line() -> Iterator[None]:
    """Engines are less urgent than all other tests."""
    with less_urgent():
        yield


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> None:
    """Several tests run at once on few cores, and threads of PyTorch that wait for each other's core take minutes."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
