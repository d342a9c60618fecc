"""What Flux and Argo CD make of our statuses, asked of the library that they use.

Current: done, or as good as a person left it. InProgress: wait. Failed: a person is needed, and waiting would be in vain.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.unit.operator import test_decide_agent as agents

from subterra_api.job_contract.messages import ExitCode
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.procedure import decide_procedure
from subterra_operator.labels import FAILURE_REASON, VERSION_LABEL
from subterra_operator.resources import Object
from subterra_operator.snapshot import ProcedureSnapshot
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs

Case = Callable[[], Object]


def told(obj: Object, decision: Decision) -> Object:
    """The object with the status that was decided."""
    return {**obj, "status": decision.status}


def first(verdict: str | None = None, later: float = 0, status: Mapping[str, Any] | None = None, **spec: Any) -> Object:
    """An agent that has never served, with its first run."""
    agent = make.agent(**spec)
    return told(agent, agents.decide(agent, later, runs=(agents.wanted_run(agent, verdict, **(status or {})),)))


def without_procedure(later: float = 60, **changes: Any) -> Object:
    """An agent that has never served and whose procedure is not as it should be: absent, or with ``changes`` to its status."""
    agent, procedure = make.agent(), make.procedure()
    procedure["status"] |= changes
    return told(agent, agents.decide(agent, later, procedure=procedure if changes else None))


def serving(
    verdict: str | None = "Pass", procedure: Object | None = None, status: Mapping[str, Any] | None = None, **spec: Any
) -> Object:
    """An agent that serves what an older run made, with a newer run."""
    agent = make.agent(**spec)
    run, older = agents.wanted_run(agent, verdict, **(status or {})), agents.other_run(agent)
    old = agents.version(agent, older)
    parts = {"runs": (run, older), "deployments": (old,), "service": agents.traffic_to(agent, old)}
    return told(agent, agents.decide(agent, procedure=procedure or make.procedure(), **parts))


def orphaned() -> Object:
    """An agent that serves and whose procedure was deleted."""
    agent = make.agent()
    older = agents.other_run(agent)
    old = agents.version(agent, older)
    decision = agents.decide(agent, procedure=None, runs=(older,), deployments=(old,), service=agents.traffic_to(agent, old))
    return told(agent, decision)


def starting(later: float, beside: bool = False, ready: int = 0, old_ready: int = 1, **annotations: str) -> Object:
    """An agent whose newest version is being started and cannot be scheduled; ``beside`` an older one that serves."""
    agent = make.agent()
    run, older = agents.wanted_run(agent), agents.other_run(agent)
    old, new = agents.version(agent, older, old_ready), agents.version(agent, run, ready, **annotations)
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}
    pod = make.pod_of(new, waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    pod["metadata"]["labels"][VERSION_LABEL] = new["metadata"]["labels"][VERSION_LABEL]
    pod["status"]["conditions"] = [unscheduled]
    parts: dict[str, Any] = {"runs": (run, older), "deployments": (old, new) if beside else (new,), "pods": (pod,)}
    if beside:
        parts["service"] = agents.traffic_to(agent, old)
    return told(agent, agents.decide(agent, later, **parts))


def alone(ready: int, away: float = 0, **serving: Any) -> Object:
    """An agent that is up to date, ``away`` seconds after its pods went."""
    gone = {"type": "Ready", "status": "False", "reason": "NotServing", "lastTransitionTime": "2026-11-20T12:00:00Z"}
    agent = make.agent({"conditions": [gone]} if away else None, serving=serving)
    run = agents.wanted_run(agent)
    deployed = agents.version(agent, run, ready)
    decision = agents.decide(agent, away, runs=(run,), deployments=(deployed,), service=agents.traffic_to(agent, deployed))
    return told(agent, decision)


def refused() -> Object:
    agent = make.agent(serving={"args": ["--trust-remote-code"]})
    return told(agent, agents.decide(agent))


def refused_while_serving() -> Object:
    agent = make.agent()
    older = agents.other_run(agent)
    old = agents.version(agent, older)
    agent["spec"]["serving"] = {"args": ["--trust-remote-code"]}
    return told(agent, agents.decide(agent, runs=(older,), deployments=(old,), service=agents.traffic_to(agent, old)))


STALLED = {
    "type": "Stalled",
    "status": "True",
    "reason": "InternalError",
    "lastTransitionTime": "2026-11-20T12:00:00Z",
    "message": "train: a bug; read the pod's log",
}
PAUSED = {"type": "Succeeded", "status": "Unknown", "reason": "Suspended", "lastTransitionTime": "2026-11-20T12:00:00Z"}
INVALID = {
    "conditions": [
        {
            "type": "Accepted",
            "status": "False",
            "reason": "InvalidProcedure",
            "message": "node greet: …",
            "lastTransitionTime": "2026-11-20T12:00:00Z",
        }
    ]
}
MANUAL = {"procedureRef": {"name": "travel"}, "trigger": "Manual"}
SUSPENDED = {"procedureRef": {"name": "travel"}, "suspend": True}


def invalid_procedure() -> Object:
    procedure = make.procedure()
    procedure["status"] |= INVALID
    return procedure


def bare(**spec: Any) -> Object:
    """An agent without runs."""
    agent = make.agent(**spec)
    return told(agent, agents.decide(agent))


def edited_while_serving(**spec: Any) -> Object:
    """An agent that serves and has no run yet for what is wanted now."""
    agent = make.agent(**spec)
    older = agents.other_run(agent)
    old = agents.version(agent, older)
    return told(agent, agents.decide(agent, runs=(older,), deployments=(old,), service=agents.traffic_to(agent, old)))


AGENTS: list[tuple[str, str, Case]] = [
    ("its first run begins", "InProgress", bare),
    ("its first run is at work", "InProgress", first),
    ("its first run failed", "Failed", lambda: first(status={"conditions": [STALLED]})),
    ("its first candidate was rejected", "Failed", lambda: first("Fail")),
    ("its first candidate was inconclusive", "Failed", lambda: first("Inconclusive")),
    ("its first candidate awaits approval", "Failed", lambda: first("Pass", promotion={"mode": "Manual"})),
    ("its first version starts", "InProgress", lambda: starting(10)),
    ("its first version did not start in time", "Failed", lambda: starting(900)),
    ("its first version was given up", "Failed", lambda: starting(9999, **{FAILURE_REASON: "no such image"})),
    ("its procedure is being checked", "InProgress", lambda: without_procedure(observedGeneration=0)),
    ("there is no such procedure yet", "InProgress", lambda: without_procedure(later=10)),
    ("there is no such procedure", "Failed", without_procedure),
    ("its procedure is invalid", "Failed", lambda: without_procedure(**INVALID)),
    ("its spec is invalid", "Failed", refused),
    ("nothing serves and the manual trigger is awaited", "Failed", lambda: bare(compile=MANUAL)),
    ("nothing serves and compilation is suspended", "Failed", lambda: bare(compile=SUSPENDED)),
    ("nothing serves and its run is suspended", "Failed", lambda: first(status={"conditions": [PAUSED]})),
    ("up to date", "Current", lambda: alone(1)),
    ("scaled to zero", "Current", lambda: alone(0, replicas=0)),
    ("its pods have just gone", "InProgress", lambda: alone(0, 10)),
    ("its pods have been gone for longer than the deadline", "Failed", lambda: alone(0, 901)),
    ("serves and recompiles", "Current", lambda: serving(None)),
    ("serves, a new run begins", "Current", edited_while_serving),
    ("serves, the manual trigger is awaited", "Current", lambda: edited_while_serving(compile=MANUAL)),
    ("serves, compilation is suspended", "Current", lambda: edited_while_serving(compile=SUSPENDED)),
    ("serves, its run is suspended", "Current", lambda: serving(None, status={"conditions": [PAUSED]})),
    ("serves, the new run failed", "Current", lambda: serving(None, status={"conditions": [STALLED]})),
    ("serves, the candidate was rejected", "Current", lambda: serving("Fail")),
    ("serves, the candidate was inconclusive", "Current", lambda: serving("Inconclusive")),
    ("serves, the candidate awaits approval", "Current", lambda: serving(promotion={"mode": "Manual"})),
    ("serves an older model by its pin", "Current", lambda: serving(promotion={"pin": "sha256:" + "b" * 64})),
    ("serves, the candidate starts", "Current", lambda: starting(10, beside=True)),
    ("serves, the candidate did not start in time", "Current", lambda: starting(900, beside=True)),
    ("serves, its procedure is invalid", "Current", lambda: serving(procedure=invalid_procedure())),
    ("serves, its procedure was deleted", "Current", orphaned),
    ("serves, its spec is invalid", "Current", refused_while_serving),
]


def run_with(stage: str | None = None, execution: Mapping[str, Any] | None = None) -> Object:
    """A run that begins, or whose ``stage`` is at work."""
    run = make.run(runs.started(stage) if stage else None, execution)
    return told(run, runs.decide(run, jobs=(runs.job(run, stage),) if stage else (), input=make.frozen(run)))


def run_of_another_procedure() -> Object:
    run = make.run()
    return told(run, runs.decide(run, procedure=make.procedure(systemPrompt="Something else.")))


def ended(code: int) -> Object:
    """A run whose first Job ended and left no words."""
    run = make.run(runs.started(), {"maxUSD": "20"})
    generate = runs.job(run, "generate")
    pod = make.pod_of(generate, terminated=make.ended(code))
    return told(run, runs.decide(run, input=make.frozen(run), jobs=(generate,), pods=(pod,)))


def superseded() -> Object:
    run = make.run(runs.started(), {"suspend": True}, annotations={"subterra.dev/superseded-by": "travel-newer"})
    return told(run, runs.decide(run, input=make.frozen(run), jobs=(runs.job(run, "generate"),)))


RUNS: list[tuple[str, str, Case]] = [
    ("begins", "InProgress", run_with),
    ("is at work", "InProgress", lambda: run_with("train")),
    ("suspended", "Current", lambda: run_with("train", {"suspend": True})),
    ("superseded", "Current", superseded),
    ("failed for a reason that passes", "InProgress", lambda: ended(ExitCode.PROVIDER_UNAVAILABLE)),
    ("failed for good", "Failed", lambda: ended(ExitCode.BUDGET_EXCEEDED)),
    ("its procedure changed before it began", "Failed", run_of_another_procedure),
    ("judged and passed", "Current", lambda: told(make.run(), runs.finished())),
    ("judged and rejected", "Current", lambda: told(make.run(), runs.finished(2.0))),
]


def procedure(**changes: Any) -> Object:
    found = make.procedure(**changes)
    return told(found, decide_procedure(ProcedureSnapshot(found), make.NOW))


CALLING = [{"id": "greet", "role": "call", "procedure": "greeting"}, {"id": "end", "role": "agent", "prompt": "Bye."}]
PROCEDURES: list[tuple[str, str, Case]] = [
    ("accepted", "Current", procedure),
    ("invalid", "Failed", lambda: procedure(start="nowhere")),
    ("waits for one that it calls", "InProgress", lambda: procedure(nodes=CALLING)),
]


def edited(obj: Object) -> Object:
    """Edited, and not looked at since."""
    return {**obj, "metadata": {**obj["metadata"], "generation": 2}}


def deleted(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-11-20T12:00:00Z"}}


EVENTS: list[tuple[str, str, Case]] = [
    ("an agent that was just edited", "InProgress", lambda: edited(alone(1))),
    ("an agent that is being deleted", "Terminating", lambda: deleted(alone(1))),
]
CASES = [
    *((f"agent: {title}", wanted, case) for title, wanted, case in AGENTS),
    *((f"run: {title}", wanted, case) for title, wanted, case in RUNS),
    *((f"procedure: {title}", wanted, case) for title, wanted, case in PROCEDURES),
    *EVENTS,
]


@pytest.mark.parametrize(("wanted", "case"), [(wanted, case) for _, wanted, case in CASES], ids=[title for title, _, _ in CASES])
def test_tools_that_wait_read_it_right(kstatus: Callable[[Object], tuple[str, str]], wanted: str, case: Case) -> None:
    obj = case()
    status, message = kstatus(obj)
    assert (status, bool(message)) == (wanted, True), f"{message}; {obj['status']['conditions']}"
