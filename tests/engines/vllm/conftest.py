"""A real vLLM that the tests here share: a start takes half a minute of a core."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.servers.vllm_server import vllm_server

UNTRAINED = "untrained"
"""Name under which the model is served."""


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, as it is before its training."""
    from subterra_testkit.runs.tiny_model import untrained

    return untrained(travel(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def untrained(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server of it, started as the operator starts it."""
    pytest.importorskip("vllm")
    with vllm_server(untrained_model, UNTRAINED, tmp_path_factory.mktemp("vllm")) as url:
        yield url
