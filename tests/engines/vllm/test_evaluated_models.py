"""Real models behind real vLLM servers: a damaged one is refused, a good one passes, and of one in between the gate cannot tell.

The stage is the process that the operator starts, with the candidate and what serves side by side.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import REFERENCES_VARIABLE, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunIdentity, StageResult
from subterra_api.v1alpha1.compilerun import CompileInputs, GatePolicy, Reference
from subterra_api.v1alpha1.scores import Verdict
from subterra_core.gate.verdict import judge
from subterra_testkit.runs.tiny_model import CITIES, TRIP, noised, trained
from subterra_testkit.servers.vllm_server import vllm_server

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1500)]  # the model depends on the processor
SHORT = ("--override-generation-config", json.dumps({"temperature": 0, "max_tokens": 40}))
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
def between(servers: Servers) -> Iterator[str]:
    """A server that gives the conversations about some cities to the damaged model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(httpx.get(servers.good + self.path, timeout=60))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said = " ".join(message["content"] for message in json.loads(body)["messages"])
            url = servers.damaged if any(city in said for city in SPOILT) else servers.good
            headers = {"Content-Type": "application/json"}
            self._answer(httpx.post(url + self.path, content=body, headers=headers, timeout=60))

        def _answer(self, response: httpx.Response) -> None:
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def verdict(candidate: str, folder: Path, serving: str | None = None) -> Verdict:
    """What the gate says of the candidate on 150 scenarios, beside what serves if something does."""
    store = folder / "store"
    references = () if serving is None else (SERVING,)
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "trip"}, "evaluation": {"scenarios": 150}})
    identity = RunIdentity(name="trip-1", namespace="demo", uid="u")
    run = resolve(inputs, TRIP, procedure_digest(TRIP), identity, store=store.as_uri(), references=references)
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
def folder(tmp_path: Path, good_model: Path) -> Path:
    """Its store has the model that serves."""
    (tmp_path / "store" / "models").mkdir(parents=True)
    (tmp_path / "store" / SERVING.model_path).symlink_to(good_model)
    return tmp_path


def test_a_model_as_good_as_what_serves_passes(servers: Servers, folder: Path) -> None:
    found = verdict(servers.good, folder, serving=servers.good)
    assert found.result == "Pass", found.reasons


def test_a_damaged_model_is_refused_for_what_it_does_worse_as_soon_as_that_is_clear(servers: Servers, folder: Path) -> None:
    found = verdict(servers.damaged, folder, serving=servers.good)
    assert found.result == "Fail", found.reasons
    named = {reason.partition(":")[0] for reason in found.reasons}
    assert {"conformance", "taskSuccess against serving", "success against serving"} <= named
    assert "only 100 of 150 scenarios were simulated" in found.reasons[-1]


def test_of_a_model_at_the_floor_the_gate_cannot_tell_and_says_how_many_scenarios_would(servers: Servers, folder: Path) -> None:
    with between(servers) as candidate:
        found = verdict(candidate, folder)
    assert found.result == "Inconclusive", found.reasons
    assert any(reason.startswith("conformance: ") and "scenarios would be needed to decide" in reason for reason in found.reasons)
