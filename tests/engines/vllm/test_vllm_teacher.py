"""The openai teacher against a real vLLM. Its model has never learned a word, so what is tested is the wire, not what is said."""

import json
from pathlib import Path

import pytest
from tests.engines.vllm.conftest import UNTRAINED
from tests.stages.hosted_models.test_openai_client import ledger, write

from subterra_api.job_contract.environment import ENDPOINTS_VARIABLE, PRICES_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_jobs.errors import InvalidInputError
from subterra_testkit.runs.generation_inputs import run_input

pytestmark = pytest.mark.timeout(700)


@pytest.fixture
def vllm(untrained: str) -> str:
    """Base URL of the server."""
    return f"{untrained}/v1"


def run_with(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> RunInput:
    monkeypatch.setenv(ENDPOINTS_VARIABLE, json.dumps([url]))
    monkeypatch.setenv(PRICES_VARIABLE, json.dumps({model: {"input": "1", "output": "2"}}))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-ones-own")
    return run_input(tmp_path, teacher={"name": "openai", "model": model, "baseURL": url})


async def test_a_vllm_is_asked_and_what_it_counts_is_booked(vllm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, figures = await write(run_with(vllm, monkeypatch, tmp_path, UNTRAINED), 2)
    assert (batch.failure, len(batch.finished)) == (None, 2)
    entries = ledger(tmp_path)
    assert len(entries) == figures.calls > 0
    assert figures.limit is None
    for entry in entries:
        assert entry["model"] == UNTRAINED
        assert entry["input"] > 100
        # Words without text look like thinking, and get as much more room as the context of 4,096 tokens has.
        assert 0 < entry["output"] <= 400 + 2048
        assert float(entry["usd"]) == pytest.approx((entry["input"] + 2 * entry["output"]) / 1_000_000)


async def test_a_model_that_it_does_not_serve_is_told_as_such(vllm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, _ = await write(run_with(vllm, monkeypatch, tmp_path, "llama"), 1)
    assert batch.failure is not None
    error = batch.failure.error()
    assert isinstance(error, InvalidInputError)
    assert "generation.teacher.model" in str(error)
