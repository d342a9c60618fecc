"""Changes the demo's release and agent for an evaluation, follows its run, and restores both."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.protocol.checks import Outcome
from bench.protocol.plan import SECRET, Endpoints, Json, agent_spec, helm_values

from subterra_cli.agents.watch_compile import is_served
from subterra_cli.cluster import ResourceReader, get_condition
from subterra_demo.steps import AGENT, NAMESPACE, RELEASE, ROOT, SYSTEM_NAMESPACE, DemoCluster, read_artifact, run

SEED = 7
"""Default seed of an evaluation."""
POLL_SECONDS = 2.0
LOG_SECONDS = 30.0
START_SECONDS = 120.0
RUN_SECONDS = 5400.0


class ProtocolError(Exception):
    """The bench cannot continue, or a result is missing; the message says what."""


def log(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def now_serving(reader: ResourceReader) -> Json:
    """The agent. Raises ProtocolError unless it serves its current spec."""
    agent = reader.get("compiledagents", AGENT)
    if agent is None or not is_served(agent):
        raise ProtocolError(f"agent {AGENT} in namespace {NAMESPACE} does not serve its current spec; run `make demo` first")
    return agent


@contextmanager
def release(demo: DemoCluster, reader: ResourceReader, at: Endpoints) -> Iterator[None]:
    """Points the operator at these endpoints and adds a Secret with keys; both are undone afterwards."""
    status = ("status", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--output=json")
    before = json.loads(run(demo.helm(*status), quiet=True))["version"]
    chart = (RELEASE, str(ROOT / "charts/subterra"), "--namespace", SYSTEM_NAMESPACE, "--reuse-values", "--wait", "--timeout=5m")
    keys = [f"--from-literal={name}=stand-in" for name in ("anthropic", "openai")]
    try:
        run(demo.kubectl("create", "secret", "generic", SECRET, "--namespace", NAMESPACE, *keys), quiet=True)
        run(demo.helm("upgrade", *chart, *helm_values(at)), quiet=True)
        yield
    finally:
        run(demo.kubectl("delete", "secret", SECRET, "--namespace", NAMESPACE, "--ignore-not-found"), quiet=True)
        back = ("rollback", RELEASE, str(before), "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout=5m")
        run(demo.helm(*back), quiet=True)
        _settled(reader)


def _settled(reader: ResourceReader) -> None:
    """Waits until the agent serves its original spec again. Raises ProtocolError."""
    deadline = time.monotonic() + START_SECONDS
    while not is_served(reader.get("compiledagents", AGENT) or {"metadata": {"generation": None}}):
        if time.monotonic() > deadline:
            raise ProtocolError(f"agent {AGENT} does not serve its restored spec; see `kubectl describe compiledagent {AGENT}`")
        time.sleep(POLL_SECONDS)
    log(f"agent {AGENT} and release {RELEASE} are restored")


@contextmanager
def kept(demo: DemoCluster, reader: ResourceReader) -> Iterator[Json]:
    """The agent's spec, which is restored afterwards."""
    spec: Json = now_serving(reader)["spec"]
    try:
        yield spec
    finally:
        _replace(demo, spec)


def begin(demo: DemoCluster, reader: ResourceReader, spec: Json, evaluation: Json, seed: int | None) -> str:
    """Gives the agent this evaluation, and returns the name of the run that results. Raises ProtocolError."""
    known = run(demo.kubectl("get", "compileruns", "--namespace", NAMESPACE, "--output=name"), quiet=True).split()
    generation = _replace(demo, agent_spec(spec, evaluation, seed))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = (reader.get("compiledagents", AGENT) or {}).get("status", {})
        if status.get("observedGeneration") == generation and (name := status.get("currentRun")):
            if any(each.endswith(f"/{name}") for each in known):
                raise ProtocolError(f"run {name} exists already; use a new seed: make bench-protocol SEED={(seed or SEED) + 1}")
            return str(name)
        time.sleep(POLL_SECONDS)
    raise ProtocolError(f"the operator created no run within {START_SECONDS:.0f} s: {status.get('conditions')}")


def _replace(demo: DemoCluster, spec: Json) -> int:
    """Replaces the agent's spec, and returns its new generation."""
    change = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
    patch = ("patch", "compiledagent", AGENT, "--namespace", NAMESPACE, "--type=json", f"--patch={change}", "--output=json")
    return int(json.loads(run(demo.kubectl(*patch), quiet=True))["metadata"]["generation"])


def wait(demo: DemoCluster, reader: ResourceReader, name: str, more: Callable[[], str]) -> None:
    """Waits until the run has a verdict; logs its progress and ``more()`` now and then. Raises ProtocolError."""
    began = logged = time.monotonic()
    while time.monotonic() - began < RUN_SECONDS:
        compiled = reader.get("compileruns", name) or {}
        status: Json = compiled.get("status", {})
        if get_condition(compiled, "Stalled").get("status") == "True":
            raise ProtocolError(f"run {name} failed: {get_condition(compiled, 'Stalled')['message']}")
        if get_condition(compiled, "Succeeded").get("status") == "True" and status.get("verdict"):
            return
        if time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            look = ("get", "compilerun", name, "--namespace", NAMESPACE, "--output=wide", "--no-headers")
            log(f"{run(demo.kubectl(*look), quiet=True).rstrip()}   {more()}")
        time.sleep(POLL_SECONDS)
    raise ProtocolError(f"run {name} has no verdict after {RUN_SECONDS:.0f} s")


def collect(demo: DemoCluster, reader: ResourceReader, name: str) -> Outcome:
    """The run's results from the store."""
    compiled = reader.get("compileruns", name) or {}
    version = (reader.get("compiledagents", AGENT) or {})["status"]["serving"]["version"]
    folder = compiled["status"]["artifacts"]["reportPath"]
    page, figures, chats = (
        read_artifact(demo, version, f"{folder}/{file}") for file in ("report.html", "report.json", "transcripts.jsonl")
    )
    booked = read_artifact(demo, version, f"ledger/*/{compiled['metadata']['uid']}/*.jsonl")
    return Outcome(
        compiled["status"],
        json.loads(figures),
        page,
        [json.loads(line) for line in chats.splitlines()],
        len(booked.splitlines()),
    )
