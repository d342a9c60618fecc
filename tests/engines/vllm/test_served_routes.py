"""The routes of a served agent that demands an API key: real clients, a real vLLM with the guard in front, an untrained model.

What the guard refuses, by whatever path, is also tested without vLLM, each time: `tests/unit/jobs/evaluate/analysis/served/`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, AuthenticationError
from openai import OpenAI
from tests.engines.vllm.conftest import UNTRAINED

from subterra_api.job_contract.environment import LOCAL_VLLM_URL
from subterra_cli.chat.agent_key import ApiKey
from subterra_cli.chat.chat_session import ChatSession, KeyRefusedError, ServerFailedError
from subterra_jobs.evaluate.analysis.served import key_guard
from subterra_jobs.exporter.scrape import scrape
from subterra_operator.specs.traffic.api_key import GUARD_MODULE
from subterra_operator.specs.vllm_container import drain_command
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.vllm_server import vllm_server

pytestmark = [pytest.mark.timeout(700), pytest.mark.exhaustive]

KEY = "sk-shop-1"
CHAT: dict[str, Any] = {"model": UNTRAINED, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
PAGE = (ROOT / "docs/reference/serving.md").read_text()


@pytest.fixture(scope="module")
def served(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with a key, as the operator starts it."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("guard")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(key_guard.KEY_VARIABLE, KEY)
        assert key_guard.main(str(folder), "shop-key") == 0
        patched.setenv("PYTHONPATH", str(folder))  # a pod has the folder as its working directory
        middleware = ("--middleware", f"{GUARD_MODULE}.Guard")
        with vllm_server(untrained_model, UNTRAINED, tmp_path_factory.mktemp("guarded"), 4096, *middleware) as url:
            yield url


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/completions", "/invocations", "/tokenize"])
def test_nothing_is_answered_without_the_key(served: str, path: str) -> None:
    body = CHAT | {"prompt": "Hello"}
    refused = [httpx.post(f"{served}{path}", json=body, headers=headers) for headers in ({}, {"Authorization": "Bearer no"})]
    assert [answer.status_code for answer in refused] == [401, 401]
    assert "Authorization: Bearer KEY" in refused[0].json()["error"]["message"]
    assert httpx.post(f"{served}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60).status_code != 401


def test_what_the_pod_itself_asks_needs_no_key(served: str) -> None:
    assert httpx.get(f"{served}/health").status_code == 200
    assert scrape(served) is not None, "the exporter finds its counters"
    drain = [part.replace(LOCAL_VLLM_URL, served) for part in drain_command()]
    subprocess.run([sys.executable, *drain[1:]], check=True, timeout=60)


def test_the_documented_python_client_reads_a_reply_as_it_is_written(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert KEY in example
    names: dict[str, Any] = {}
    example = example.replace("http://localhost:8000", served).replace('model="travel"', f'model="{UNTRAINED}", max_tokens=8')
    exec(example, names)  # noqa: S102 - our own page
    assert names["conversation"][-1] == {"role": "assistant", "content": names["reply"]}
    assert capsys.readouterr().out == names["reply"]


def test_anthropics_messages_are_answered_too(served: str) -> None:
    client = Anthropic(base_url=served, api_key=KEY, max_retries=0)
    reply = client.messages.create(model=UNTRAINED, max_tokens=8, messages=[{"role": "user", "content": "Hello"}])
    assert (reply.type, reply.role) == ("message", "assistant")
    assert 0 < reply.usage.output_tokens <= 8
    same = OpenAI(base_url=f"{served}/v1", api_key=KEY).chat.completions.create(
        model=UNTRAINED, max_tokens=8, messages=[{"role": "user", "content": "Hello"}]
    )
    assert same.usage and same.usage.prompt_tokens == reply.usage.input_tokens, "the same system prompt, by the same template"
    with pytest.raises(AuthenticationError, match="Authorization: Bearer KEY"):
        Anthropic(base_url=served, api_key="no", max_retries=0).messages.create(
            model=UNTRAINED, max_tokens=8, messages=[{"role": "user", "content": "Hello"}]
        )


def test_anthropics_messages_stream(served: str) -> None:
    client = Anthropic(base_url=served, api_key=KEY, max_retries=0)
    with client.messages.stream(model=UNTRAINED, max_tokens=8, messages=[{"role": "user", "content": "Hello"}]) as parts:
        kinds = [part.type for part in parts]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


def test_subterra_chat_sends_the_key(served: str) -> None:
    with pytest.raises(KeyRefusedError, match="demands an API key"):
        ChatSession(served, UNTRAINED).greet()
    with pytest.raises(ServerFailedError, match="answered 404"):  # past both checks; an untrained model would talk for long
        ChatSession(served, "no-such-model", api_key=ApiKey(KEY, "a file")).greet()
