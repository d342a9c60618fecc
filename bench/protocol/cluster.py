"""The demo's release, agent and runs: changed for an evaluation, watched, and put back as they were."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.protocol.checks import Outcome
from bench.protocol.plan import SECRET, Endpoints, Json, agent_spec, helm_values

from subterra_cli.cluster import Reader, condition
from subterra_cli.watch_compile import served
from subterra_demo.steps import AGENT, NAMESPACE, RELEASE, ROOT, SYSTEM_NAMESPACE, Place, run, stored

SEED = 7
"""The default of an evaluation."""
POLL_SECONDS = 2.0
TELL_SECONDS = 30.0
START_SECONDS = 120.0
RUN_SECONDS = 5400.0


class ProtocolError(Exception):
    """It cannot go on, or something is missing; the message says what."""


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def now_serving(reader: Reader) -> Json:
    """The agent. Raises ProtocolError unless it serves what its spec says."""
    agent = reader.get("compiledagents", AGENT)
    if agent is None or not served(agent):
        raise ProtocolError(f"agent {AGENT} in namespace {NAMESPACE} does not serve what its spec says; run `make demo` first")
    return agent


@contextmanager
def release(place: Place, reader: Reader, at: Endpoints) -> Iterator[None]:
    """The operator with these endpoints, and a Secret with keys; both as before after the block."""
    status = ("status", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--output=json")
    before = json.loads(run(place.helm(*status), quiet=True))["version"]
    chart = (RELEASE, str(ROOT / "charts/subterra"), "--namespace", SYSTEM_NAMESPACE, "--reuse-values", "--wait", "--timeout=5m")
    keys = [f"--from-literal={name}=stand-in" for name in ("anthropic", "openai")]
    try:
        run(place.kubectl("create", "secret", "generic", SECRET, "--namespace", NAMESPACE, *keys), quiet=True)
        run(place.helm("upgrade", *chart, *helm_values(at)), quiet=True)
        yield
    finally:
        run(place.kubectl("delete", "secret", SECRET, "--namespace", NAMESPACE, "--ignore-not-found"), quiet=True)
        back = ("rollback", RELEASE, str(before), "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout=5m")
        run(place.helm(*back), quiet=True)
        _settled(reader)


def _settled(reader: Reader) -> None:
    """Waits until the agent is where it was."""
    deadline = time.monotonic() + START_SECONDS
    while not served(reader.get("compiledagents", AGENT) or {"metadata": {"generation": None}}):
        if time.monotonic() > deadline:
            raise ProtocolError(
                f"agent {AGENT} has its spec again and does not serve it; see `kubectl describe compiledagent {AGENT}`"
            )
        time.sleep(POLL_SECONDS)
    say(f"agent {AGENT} and release {RELEASE} are as they were")


@contextmanager
def kept(place: Place, reader: Reader) -> Iterator[Json]:
    """The agent's spec, which it has again after the block."""
    spec: Json = now_serving(reader)["spec"]
    try:
        yield spec
    finally:
        _replace(place, spec)


def begin(place: Place, reader: Reader, spec: Json, evaluation: Json, seed: int | None) -> str:
    """Gives the agent this evaluation; the name of the run that it makes for it. Raises ProtocolError."""
    known = run(place.kubectl("get", "compileruns", "--namespace", NAMESPACE, "--output=name"), quiet=True).split()
    generation = _replace(place, agent_spec(spec, evaluation, seed))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = (reader.get("compiledagents", AGENT) or {}).get("status", {})
        if status.get("observedGeneration") == generation and (name := status.get("currentRun")):
            if any(each.endswith(f"/{name}") for each in known):
                raise ProtocolError(f"run {name} was made before; evaluate anew with make bench-protocol SEED={(seed or SEED) + 1}")
            return str(name)
        time.sleep(POLL_SECONDS)
    raise ProtocolError(f"the operator made no run within {START_SECONDS:.0f} s: {status.get('conditions')}")


def _replace(place: Place, spec: Json) -> int:
    """Gives the agent this spec; its generation."""
    change = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
    patch = ("patch", "compiledagent", AGENT, "--namespace", NAMESPACE, "--type=json", f"--patch={change}", "--output=json")
    return int(json.loads(run(place.kubectl(*patch), quiet=True))["metadata"]["generation"])


def wait(place: Place, reader: Reader, name: str, more: Callable[[], str]) -> None:
    """Until the run has a verdict; tells now and then how far it is, and what ``more`` says. Raises ProtocolError."""
    began = told = time.monotonic()
    while time.monotonic() - began < RUN_SECONDS:
        compiled = reader.get("compileruns", name) or {}
        status: Json = compiled.get("status", {})
        if condition(compiled, "Stalled").get("status") == "True":
            raise ProtocolError(f"run {name} failed: {condition(compiled, 'Stalled')['message']}")
        if condition(compiled, "Succeeded").get("status") == "True" and status.get("verdict"):
            return
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            look = ("get", "compilerun", name, "--namespace", NAMESPACE, "--output=wide", "--no-headers")
            say(f"{run(place.kubectl(*look), quiet=True).rstrip()}   {more()}")
        time.sleep(POLL_SECONDS)
    raise ProtocolError(f"run {name} has no verdict after {RUN_SECONDS:.0f} s")


def collect(place: Place, reader: Reader, name: str) -> Outcome:
    """What the run left in the store; the report's page and figures also in out/."""
    compiled = reader.get("compileruns", name) or {}
    version = (reader.get("compiledagents", AGENT) or {})["status"]["serving"]["version"]
    folder = compiled["status"]["artifacts"]["reportPath"]
    page, figures, chats = (
        stored(place, version, f"{folder}/{file}") for file in ("report.html", "report.json", "transcripts.jsonl")
    )
    booked = stored(place, version, f"ledger/*/{compiled['metadata']['uid']}/*.jsonl")
    return Outcome(
        compiled["status"], json.loads(figures), page, [json.loads(line) for line in chats.splitlines()], len(booked.splitlines()),
    )  # fmt: skip
