"""What tests of engines have in common: they compute, so they run without tests of deadlines next to them."""

import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> None:
    """Several tests run at once on few cores, and threads of PyTorch that wait for each other's core take minutes."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
