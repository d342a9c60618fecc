"""Real models behind real vLLM servers: a damaged one is refused, a good one passes, and of one in between the gate cannot tell.

The stage is the process that the operator starts, with the candidate and what serves side by side. `make test` has the model that
has learned nothing; the others are trained first, and how good they get depends on the processor.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from subterra_api.digest import canonical, procedure_digest, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import REFERENCES_VARIABLE, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import CompileInputs, GatePolicy, Reference
from subterra_api.v1alpha1.scores import Verdict
from subterra_core.gate.verdict import judge
from subterra_testkit.runs.customer_meanings import customer_meanings
from subterra_testkit.runs.tiny_model import CITIES, TRIP, noised, trained
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.local_server import ManyClientsServer, QuietHandler, in_background
from subterra_testkit.servers.vllm_server import vllm_server

pytestmark = pytest.mark.timeout(1500)
MAX_TOKENS = 40
SHORT = ("--override-generation-config", json.dumps({"temperature": 0, "max_tokens": MAX_TOKENS}))
"""No step of the procedure is longer, and a damaged model that does not end its replies would take minutes."""
NOISE = 0.4
"""Of each tensor's standard deviation: about half of the replies are then wrong."""
SPOILT = frozenset(CITIES[::6])
"""Five cities of 26: whom the model in between fails, so that it is about at the floor of 80 %."""
SERVING = Reference(role="Serving", run="trip-0", model_digest="sha256:" + "a" * 64, model_path="models/old")


@pytest.fixture(scope="module")
def good_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vllm")
    return trained(tmp_path_factory.mktemp("trained"))


class Servers(NamedTuple):
    """URLs of the good model and of the damaged one."""

    good: str
    damaged: str


@pytest.fixture(scope="module")
def servers(good_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both start at once, since a start takes one core."""
    folder = tmp_path_factory.mktemp("servers")
    models = {"good": good_model, "damaged": noised(good_model, folder / "noised", NOISE)}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        starts = [
            pool.submit(stack.enter_context, vllm_server(model, "candidate", folder / name, 1024, *SHORT))
            for name, model in models.items()
        ]
        yield Servers(*(start.result() for start in starts))


@contextmanager
def relay(url_for: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """A server that hands each conversation to the server at the URL that it is for, and lets no reply grow long."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self._pass_on(httpx.get(url_for({"messages": []}) + self.path, timeout=60))

        def do_POST(self) -> None:
            body = json.loads(self.body())
            self._pass_on(httpx.post(url_for(body) + self.path, json=body | {"max_tokens": MAX_TOKENS}, timeout=60))

        def _pass_on(self, response: httpx.Response) -> None:
            self.answer(response.status_code, response.content)

    with in_background(ManyClientsServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def between(servers: Servers) -> Callable[[dict[str, Any]], str]:
    """Gives the conversations about some cities to the damaged model."""

    def url_for(body: dict[str, Any]) -> str:
        said = " ".join(message["content"] for message in body["messages"])
        return servers.damaged if any(city in said for city in SPOILT) else servers.good

    return url_for


def evaluation_of(folder: Path, references: tuple[Reference, ...]) -> RunInput:
    """A run whose candidate is evaluated on 150 scenarios."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "trip"}, "evaluation": {"scenarios": 150}})
    identity = RunIdentity(name="trip-1", namespace="demo", uid="u")
    return resolve(inputs, TRIP, procedure_digest(TRIP), identity, store=(folder / "store").as_uri(), references=references)


def verdict(candidate: str, folder: Path, serving: str | None = None) -> Verdict:
    """What the gate says of the candidate on 150 scenarios, beside what serves if something does."""
    run = evaluation_of(folder, () if serving is None else (SERVING,))
    (folder / "input.json").write_text(run.model_dump_json(by_alias=True))
    told = {
        VLLM_VARIABLE: candidate,
        REFERENCES_VARIABLE: json.dumps([serving] if serving else []),
        "SUBTERRA_TERMINATION_LOG": str(folder / "log"),
    }
    command = [sys.executable, "-m", "subterra_jobs.evaluate", "--input", str(folder / "input.json")]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    scores = StageResult.model_validate_json((folder / "log").read_text()).scores
    assert scores
    return judge(scores, GatePolicy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Its store has of the model that serves what the stage reads: the procedure that it was compiled from."""
    (tmp_path / "store" / SERVING.model_path).mkdir(parents=True)
    (tmp_path / "store" / SERVING.model_path / PROCEDURE_FILE).write_bytes(canonical(significant_fields(TRIP)))
    return tmp_path


def refused(found: Verdict) -> None:
    """Fails unless the verdict names what the candidate does worse, after as few scenarios as show it."""
    assert found.result == "Fail", found.reasons
    named = {reason.partition(":")[0] for reason in found.reasons}
    assert {"conformance", "taskSuccess against serving", "success against serving"} <= named
    assert "only 100 of 150 scenarios were simulated" in found.reasons[-1]


def test_a_model_that_has_learned_nothing_is_refused_for_what_it_does_worse(untrained: str, folder: Path) -> None:
    meant = customer_meanings(TRIP, evaluation_of(folder, (SERVING,)).evaluation)
    with relay(lambda _: untrained) as candidate, fake_chat_server(TRIP, meanings=meant) as (serving, _):
        refused(verdict(candidate, folder, serving))


@pytest.mark.exhaustive
def test_a_model_as_good_as_what_serves_passes(servers: Servers, folder: Path) -> None:
    found = verdict(servers.good, folder, serving=servers.good)
    assert found.result == "Pass", found.reasons


@pytest.mark.exhaustive
def test_a_damaged_model_is_refused_for_what_it_does_worse_as_soon_as_that_is_clear(servers: Servers, folder: Path) -> None:
    refused(verdict(servers.damaged, folder, serving=servers.good))


@pytest.mark.exhaustive
def test_of_a_model_at_the_floor_the_gate_cannot_tell_and_says_how_many_scenarios_would(servers: Servers, folder: Path) -> None:
    with relay(between(servers)) as candidate:
        found = verdict(candidate, folder)
    assert found.result == "Inconclusive", found.reasons
    assert any(reason.startswith("conformance: ") and "scenarios would be needed to decide" in reason for reason in found.reasons)
