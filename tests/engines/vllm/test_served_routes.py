"""The routes of a served agent that demands an API key and tells conversation states: real clients, an untrained model, and a real
vLLM with the guard in front and the reader of states next to it.

What the guard refuses, by whatever path, is also tested without vLLM, each time: `tests/unit/jobs/evaluate/analysis/served/`.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, AuthenticationError
from openai import OpenAI
from tests.engines.vllm.conftest import UNTRAINED

from subterra_api.digest import canonical, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.environment import LOCAL_VLLM_URL, MODEL_PATH_VARIABLE, MODELS_VARIABLE, STATE_SOCKET_VARIABLE
from subterra_cli.chat.agent_key import ApiKey
from subterra_cli.chat.chat_session import ChatSession, KeyRefusedError, ServerFailedError
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.analysis.served import key_guard
from subterra_jobs.evaluate.analysis.served.state import state_route
from subterra_jobs.exporter.scrape import scrape
from subterra_operator.specs.traffic.api_key import GUARD_MODULE
from subterra_operator.specs.traffic.state_pods import PROGRAM, ROUTE_MODULE
from subterra_operator.specs.vllm_container import drain_command
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.servers.vllm_server import vllm_server

pytestmark = [pytest.mark.timeout(700), pytest.mark.exhaustive]

KEY = "sk-shop-1"
CHAT: dict[str, Any] = {"model": UNTRAINED, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
STATE, HANDOVER = state_route.ROUTE, "handover"
PAGE = (ROOT / "docs/reference/serving.md").read_text()


@pytest.fixture(scope="module")
def state_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Socket of a reader of states for travel, which knows the author's words alone."""
    folder = tmp_path_factory.mktemp("state")
    (folder / PROCEDURE_FILE).write_bytes(canonical(significant_fields(travel())))
    socket = folder / "state.sock"
    variables = {STATE_SOCKET_VARIABLE: str(socket), MODEL_PATH_VARIABLE: str(folder), MODELS_VARIABLE: str(folder)}
    process = subprocess.Popen([sys.executable, "-m", PROGRAM], env=os.environ | variables)
    yield socket
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def served(untrained_model: Path, state_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with a key and with states, as the operator starts it."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("guard")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(key_guard.KEY_VARIABLE, KEY)
        patched.setenv(STATE_SOCKET_VARIABLE, str(state_socket))
        assert key_guard.main(str(folder), "shop-key") == 0
        copyfile(state_route.__file__, folder / f"{ROUTE_MODULE}.py")
        patched.setenv("PYTHONPATH", str(folder))  # a pod has the folder as its working directory
        middleware = ("--middleware", f"{ROUTE_MODULE}.StateRoute", "--middleware", f"{GUARD_MODULE}.Guard")
        with vllm_server(untrained_model, UNTRAINED, tmp_path_factory.mktemp("guarded"), 4096, *middleware) as url:
            yield url


def run_example(served: str, names: dict[str, Any], number: int) -> dict[str, Any]:
    """The names after the page's example in Python, run with these."""
    example = re.findall(r"```python\n(.*?)```", PAGE, re.S)[number]
    example = example.replace("http://localhost:8000", served).replace('model="travel"', f'model="{UNTRAINED}", max_tokens=8')
    exec(example, names)  # noqa: S102 - our own page
    return names


def conversation_to(terminal: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Messages of a conversation in the author's words that ends there, and the customer's values."""
    graph, rng = Graph(travel()), random.Random(1)
    path = next(path for path in iter(lambda: sample_path(graph, rng), None) if path[-1] == terminal)
    values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
    return chat_messages("", None, scripted_utterances(graph, path, values, rng))[1:], values


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/completions", "/invocations", "/tokenize", STATE])
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
    names = run_example(served, {}, 0)
    assert names["conversation"][-1] == {"role": "assistant", "content": names["reply"]}
    assert capsys.readouterr().out == names["reply"]


def test_the_documented_python_client_learns_of_an_escalation(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    conversation, values = conversation_to(HANDOVER)
    client = OpenAI(base_url=f"{served}/v1", api_key=KEY)
    state = run_example(served, {"client": client, "conversation": conversation}, 1)["state"]
    assert (state["node"], state["outcome"], state["ended"], state["reason"]) == (HANDOVER, "escalation", True, None)
    assert state["variables"].items() <= values.items()
    assert "A person takes over" in capsys.readouterr().out


def test_a_reply_of_a_model_that_has_learned_nothing_is_unknown(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = run_example(served, run_example(served, {}, 0), 1)["state"]
    assert (state["node"], state["outcome"]) == (None, None)
    assert state["reason"] in capsys.readouterr().out


def test_the_documented_curl_is_answered(served: str) -> None:
    [command] = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) if STATE in block]
    command = command.replace("http://localhost:8000", served)
    said = subprocess.run(["bash", "-c", command], env=os.environ | {"KEY": KEY}, capture_output=True, check=True, timeout=60)
    assert json.loads(said.stdout)["node"] == "ask_trip"


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
