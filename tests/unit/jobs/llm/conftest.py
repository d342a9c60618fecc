"""A fake provider with a metered client."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.environment import ENDPOINTS_VARIABLE, PRICES_VARIABLE
from subterra_api.v1alpha1.compilerun import Provider
from subterra_testkit.runs.metered_calls import Setup
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

ALMOST_SONNET = {"qwen": {"input": "2", "output": "10"}}


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serves a fake, and returns a client's setup for a provider."""

    @contextmanager
    def start(api: FakeLLMApi, provider: dict[str, Any], *, own: str | None = None, **more: Any) -> Iterator[Setup]:
        with fake_llm_api(api) as served:
            monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
            monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
            monkeypatch.setenv("ANTHROPIC_BASE_URL", served.url)
            monkeypatch.setenv("OPENAI_BASE_URL", f"{served.url}/v1")
            if own is not None:
                url = served.url + own
                monkeypatch.setenv(ENDPOINTS_VARIABLE, json.dumps([url]))
                monkeypatch.setenv(PRICES_VARIABLE, json.dumps(ALMOST_SONNET))
                provider = provider | {"baseURL": url}
            yield Setup(served, tmp_path, Provider.model_validate(provider), **more)

    return start
