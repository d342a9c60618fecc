"""Models that share one GPU are played one after another over the wire, and get the scores that they get side by side."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.stages.test_scripted_evaluation import SPEC

from subterra_api.job_contract.messages import RunInput, StageResult
from subterra_api.v1alpha1.compilerun import GatePolicy, Reference
from subterra_core.gate.verdict import judge
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.main import work
from subterra_jobs.evaluate.progress import StepCounter
from subterra_jobs.evaluate.simulate import model_switch
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_operator.specs.in_vllm import one_at_a_time
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.local_server import free_port

SERVING = Reference(role="Serving", run="travel-old", model_digest="sha256:" + "b" * 64, model_path="models/old")
SCRIPTED = {"simulator": {"name": "scripted"}, "scenarios": 20}
ON_THE_GPU = """
import fcntl, os, sys
gpu = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
fcntl.flock(gpu, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.set_inheritable(gpu, True)
print("loaded", sys.argv[2], file=open(sys.argv[1] + ".log", "a"))
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
"""A server that ends with an error if another one has the GPU, a locked file."""


def scripted_run(folder: Path) -> RunInput:
    return run_input(folder / "store", SPEC, references=(SERVING,), **SCRIPTED)


@contextmanager
def one_gpu(folder: Path, damages: dict[str, str]) -> Iterator[StageEnvironment]:
    """The environment of an evaluation whose servers, by model, share a GPU; their container's command runs as in the pod."""
    ports = {name: free_port() for name in damages}
    commands = {
        name: [
            *(sys.executable, "-c", ON_THE_GPU, str(folder / "gpu"), name, "-m", "subterra_testkit.servers.fake_chat_server"),
            *("--procedure", str(ROOT / "examples/travel/procedure.yaml"), "--port", str(ports[name]), "--damage", damage),
        ]
        for name, damage in damages.items()
    }
    source, file = Path(one_at_a_time.__file__).read_text(), folder / "served-model"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "testkit")}
    container = subprocess.Popen([sys.executable, "-c", source, str(file), json.dumps(commands)], env=environment)
    try:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        references = tuple(url for name, url in urls.items() if name != "candidate")
        yield replace(StageEnvironment.parse({}), vllm_url=urls["candidate"], reference_urls=references, model_switch=file)
        assert container.poll() is None, "no server has failed for want of a GPU"
    finally:
        container.send_signal(signal.SIGTERM)
        assert container.wait(30) == 0


def side_by_side(folder: Path, damages: dict[str, str]) -> StageResult:
    """With few conversations at once, so that the first block is looked at long before the last one ends."""
    with ExitStack() as stack:
        urls = [stack.enter_context(fake_chat_server(SPEC, damage))[0] for damage in damages.values()]
        environment = replace(StageEnvironment.parse({}), vllm_url=urls[0], reference_urls=tuple(urls[1:]), concurrency=2)
        return execute("evaluate", work, scripted_run(folder), environment=environment, port=0)


@pytest.mark.parametrize("serving", ["none", "forgetful"])
def test_scores_and_verdict_are_those_of_models_served_side_by_side(tmp_path: Path, serving: str) -> None:
    damages = {"candidate": "none", "serving": serving}
    expected = side_by_side(tmp_path / "parallel", damages)
    with one_gpu(tmp_path, damages) as environment:
        found = execute("evaluate", work, scripted_run(tmp_path / "sequential"), environment=environment, port=0)
    assert found.scores and expected.scores
    assert found.scores.dump() == expected.scores.dump()
    assert judge(found.scores, GatePolicy()) == judge(expected.scores, GatePolicy())
    assert (tmp_path / "gpu.log").read_text().splitlines() == ["loaded serving", "loaded candidate"], "each is loaded once"


def test_an_evaluation_that_gives_up_early_gives_up_at_the_same_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_jobs.evaluate.main.INTERIM_BLOCK", 10)
    damages = {"candidate": "hasty", "serving": "none"}
    expected = side_by_side(tmp_path / "parallel", damages)
    with one_gpu(tmp_path, damages) as environment:
        found = execute("evaluate", work, scripted_run(tmp_path / "sequential"), environment=environment, port=0)
    assert found.scores and expected.scores and expected.scores.ended_early
    assert found.scores.dump() == expected.scores.dump()


def test_a_model_whose_conversations_are_stored_is_not_loaded_again(tmp_path: Path) -> None:
    damages = {"candidate": "none", "serving": "none"}
    run = scripted_run(tmp_path)
    with one_gpu(tmp_path, damages) as environment:
        first = execute("evaluate", work, run, environment=environment, port=0)
    (tmp_path / "gpu.log").unlink()
    another = run.model_copy(update={"keys": run.keys.model_copy(update={"report": "f" * len(run.keys.report)})})
    with one_gpu(tmp_path, damages) as environment:
        again = execute("evaluate", work, another, environment=environment, port=0)
    assert first.scores and again.scores
    assert again.scores.dump() == first.scores.dump()


def test_a_model_that_does_not_start_fails_the_attempt_with_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_jobs.evaluate.simulate.model_switch.START_SECONDS", 1.0)
    port = free_port()
    environment = replace(
        StageEnvironment.parse({}),
        vllm_url=f"http://127.0.0.1:{port}",
        reference_urls=("http://127.0.0.1:1",),
        model_switch=tmp_path / "served-model",
    )
    with pytest.raises(InfrastructureError, match=r"no model is served at http://127\.0\.0\.1:1/? after 1 s"):
        execute("evaluate", work, scripted_run(tmp_path), environment=environment, port=0)
    assert (tmp_path / "served-model").read_text() == "serving"
    assert model_switch.START_SECONDS == 1.0


def test_conversations_that_are_played_ahead_are_counted_once() -> None:
    steps = StepCounter()
    for _ in range(3):
        steps.increment_ahead()
    assert steps.done == 3
    for _ in range(5):
        steps.increment()
    assert (steps.done, steps.ahead) == (5, 0)


def test_a_server_and_what_it_started_are_gone_before_the_next_one_starts(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    pid, after = tmp_path / "pid", tmp_path / "after"
    look = f"import os, pathlib; pathlib.Path({str(after)!r}).write_text(str(os.path.exists('/proc/' + open({str(pid)!r}).read())))"
    commands = {"first": [sys.executable, "-c", stubborn, str(pid)], "second": [sys.executable, "-c", look]}
    source = Path(one_at_a_time.__file__).read_text().replace("STOP_SECONDS = 30.0", "STOP_SECONDS = 1.0")
    file = tmp_path / "name"
    file.write_text("first")
    container = subprocess.Popen([sys.executable, "-c", source, str(file), json.dumps(commands)])
    end = time.monotonic() + 30
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    file.write_text("second")
    assert container.wait(60) == 1, "a server that ends by itself is no success"
    assert after.read_text() == "False"
    assert not Path("/proc", pid.read_text()).exists()
