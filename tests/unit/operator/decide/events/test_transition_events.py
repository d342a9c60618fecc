"""Which Events a change of a status makes: a table of old and new statuses, and a whole life."""

import copy
import random
from typing import Any

import pytest

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.events.event import NOTE_BYTES, Event, EventReason, fit, span
from subterra_operator.decide.events.transition import transition_events
from subterra_operator.resources import Object
from subterra_testkit.cluster.agent_lifecycle import AgentLifecycle
from subterra_testkit.repository import ROOT

SINCE = "2026-11-20T12:00:00Z"
LATER = "2026-11-20T12:12:03Z"
DIGEST = "sha256:" + "ab" * 32
NEW: Object = {"observedGeneration": -1}
"""A status as the API server sets it in a new object."""


def told(**conditions: tuple[str, str] | tuple[str, str, str]) -> Object:
    """Conditions as status, reason and message."""
    parts = {kind: (*state, "")[:3] for kind, state in conditions.items()}
    found = [
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": SINCE}
        for kind, (status, reason, message) in parts.items()
    ]
    return {"conditions": found}


def run(stage: Object | None = None, succeeded: tuple[str, str] = ("Unknown", "Running"), **status: Any) -> Object:
    """A run whose training has this state."""
    stalled = ("True", succeeded[1], "why") if succeeded[0] == "False" else ("False", succeeded[1])
    stages = [{"name": "train", **stage}] if stage else []
    return {**told(Succeeded=(*succeeded, "why"), Stalled=stalled), "procedureDigest": DIGEST, "stages": stages, **status}


def agent(up_to_date: tuple[str, str], message: str = "why", stalled: bool = False, **status: Any) -> Object:
    """An agent that is up to date, or why it is not."""
    return {**told(UpToDate=(*up_to_date, message), Stalled=(str(stalled), up_to_date[1], message)), **status}


def version(name: str) -> Object:
    return {"version": name, "modelDigest": DIGEST, "modelPath": "m", "run": f"run-{name}"}


def serving(name: str, *history: str, reason: str = "UpToDate") -> Object:
    """An agent that serves a version; it has served the others before."""
    return agent(("True", reason), serving=version(name), history=[version(each) for each in (name, *history)])


def verdict(result: str, run: str = "r2") -> Object:
    return {"candidate": {"run": run, "verdict": {"result": result, "reasons": ["the reasons"]}}, "currentRun": run}


RUNNING = {"state": "Running", "attempt": 1, "jobName": "r-train-1", "startedAt": SINCE}
RETRYING = {
    "state": "Pending",
    "attempt": 1,
    "reason": "Infrastructure",
    "message": "no disk; attempt 1 failed, retrying",
    "finishedAt": LATER,
}
SECOND = {"state": "Running", "attempt": 2, "retries": 1, "jobName": "r-train-2", "startedAt": LATER}
DONE = {**RUNNING, "state": "Succeeded", "finishedAt": LATER, "usd": "1.20", "tokens": 80000, "message": "95 steps"}
FAILED = {**RUNNING, "state": "Failed", "finishedAt": LATER, "reason": "BudgetExceeded", "message": "the cap of $5 is used up"}
COMPILING, UP_TO_DATE = ("False", "Compiling"), ("True", "UpToDate")
ACCEPTED = {**told(Accepted=("True", "Valid", "14 nodes, 3 hubs, 86 paths")), "digest": DIGEST}
OTHER = {**ACCEPTED, "digest": "sha256:" + "cd" * 32, "warnings": ["a", "b"]}
REJECTED = told(Accepted=("False", "InvalidProcedure", "edge a → b: there is no node 'b'"))
REJECTED_AGAIN = told(Accepted=("False", "InvalidProcedure", "node c: no way out"))
POOL_PENDING = ("Unknown", "Pending", "is being made")
POOL_BLOCKED = ("False", "InferencePoolBlocked", "install it")
POOL_READY = ("True", "InferencePoolReady", "it has the pods of version a")

TABLE: list[tuple[str, Object, Object, list[str]]] = [
    ("Procedure", NEW, ACCEPTED, ["Normal Valid accepted: 14 nodes, 3 hubs, 86 paths, digest abababab"]),
    (
        "Procedure",
        ACCEPTED,
        OTHER,
        ["Normal Valid accepted: 14 nodes, 3 hubs, 86 paths, digest cdcdcdcd; status.warnings has 2 warnings"],
    ),
    ("Procedure", ACCEPTED, {**ACCEPTED, "observedGeneration": 2}, []),
    ("Procedure", ACCEPTED, REJECTED, ["Warning InvalidProcedure rejected: edge a → b: there is no node 'b'"]),
    ("Procedure", REJECTED, REJECTED_AGAIN, ["Warning InvalidProcedure rejected: node c: no way out"]),
    (
        "CompileRun",
        NEW,
        run(RUNNING),
        [
            "Normal Created compiles procedure abababab in the stages generate, train, evaluate and gate",
            "Normal StageStarted train started as Job r-train-1",
        ],
    ),
    ("CompileRun", run(RUNNING), run({**RUNNING, "percent": 60, "message": "60 of 95 steps", "usd": "1"}), []),
    (
        "CompileRun",
        run(RUNNING),
        run(DONE),
        ["Normal StageSucceeded train succeeded in 12 min 3 s for $1.20 (80,000 tokens): 95 steps"],
    ),
    ("CompileRun", run(RUNNING), run(RETRYING), ["Warning Infrastructure train: no disk; attempt 1 failed, retrying"]),
    ("CompileRun", run(RETRYING), run({**RETRYING, "message": "suspended"}), []),
    (
        "CompileRun",
        run(RETRYING),
        run(SECOND),
        ["Normal StageRetried train: attempt 2 started, automatic retry 1 of 2, as Job r-train-2"],
    ),
    (
        "CompileRun",
        run(RUNNING),
        run(FAILED, ("False", "BudgetExceeded")),
        ["Warning BudgetExceeded train failed in attempt 1 in 12 min 3 s: the cap of $5 is used up"],
    ),
    (
        "CompileRun",
        run(FAILED, ("False", "BudgetExceeded")),
        run({**SECOND, "retries": 0}),
        [
            "Normal Recovered no longer stalled by BudgetExceeded",
            "Normal StageRetried train: attempt 2 started, because someone asked for a retry, as Job r-train-2",
        ],
    ),
    (
        "CompileRun",
        run(RUNNING),
        run({**RUNNING, "jobName": "r-train-1-attach"}),
        [
            "Warning ResultLost train: the Job succeeded but its result was lost; "
            "Job r-train-1-attach reads it back, which costs nothing"
        ],
    ),
    (
        "CompileRun",
        run(RUNNING),
        run({**RUNNING, "reason": "Unschedulable", "message": "no node has a GPU"}),
        ["Warning Unschedulable train: no node has a GPU"],
    ),
    (
        "CompileRun",
        run({**RUNNING, "reason": "Unschedulable", "message": "no node has a GPU"}),
        run(RUNNING),
        ["Normal Recovered train: no longer held up by Unschedulable"],
    ),
    ("CompileRun", run(RUNNING), run(RUNNING, ("Unknown", "Suspended")), ["Normal Suspended why"]),
    ("CompileRun", run(RUNNING), run(RUNNING, ("Unknown", "Superseded")), ["Normal Superseded why"]),
    (
        "CompileRun",
        run(RUNNING, ("Unknown", "Superseded")),
        run(RUNNING),
        ["Normal Resumed no longer superseded; finished work is kept"],
    ),
    (
        "CompileRun",
        run(DONE),
        run(DONE, ("True", "Succeeded"), usd="2.5", verdict={"result": "Pass", "reasons": ["the reasons"]}),
        ["Normal GatePassed verdict Pass: the reasons", "Normal Succeeded all stages succeeded for $2.5; verdict Pass"],
    ),
    (
        "CompileRun",
        run(DONE, ("True", "Succeeded"), verdict={"result": "Pass"}),
        run(DONE, ("True", "Succeeded"), verdict={"result": "Fail", "reasons": ["a floor was raised"]}),
        ["Warning GateFailed verdict Fail: a floor was raised"],
    ),
    ("CompileRun", run(), run(None, ("False", "ProcedureNotFound")), ["Warning ProcedureNotFound why"]),
    ("CompileRun", run(None, ("False", "ProcedureNotFound")), run(), ["Normal Recovered no longer stalled by ProcedureNotFound"]),
    (
        "CompiledAgent",
        NEW,
        agent(COMPILING, "run r1 is starting", currentRun="r1", procedureDigest=DIGEST),
        ["Normal RunCreated run r1 compiles procedure abababab"],
    ),
    (
        "CompiledAgent",
        agent(COMPILING, currentRun="r1"),
        agent(COMPILING, "run r2 is starting", currentRun="r2", procedureDigest=DIGEST),
        ["Normal RunCreated run r2 compiles procedure abababab; run r1 is superseded and keeps its finished work"],
    ),
    (
        "CompiledAgent",
        agent(COMPILING, currentRun="r2"),
        agent(COMPILING, "run r1 is in progress", currentRun="r1", procedureDigest=DIGEST),
        [
            "Normal Compiling run r1 compiles procedure abababab; the work that it has finished is kept; "
            "run r2 is superseded and keeps its finished work"
        ],
    ),
    (
        "CompiledAgent",
        agent(UP_TO_DATE, currentRun="r1"),
        agent(UP_TO_DATE, procedureDigest=DIGEST, **verdict("Pass")),
        ["Normal RunReused run r2 had compiled procedure abababab before, with the verdict Pass; nothing is paid again"],
    ),
    (
        "CompiledAgent",
        agent(COMPILING, currentRun="r2", candidate={"run": "r2"}),
        agent(("False", "Starting"), "version v is starting", **verdict("Pass")),
        ["Normal GatePassed run r2: the reasons", "Normal Starting version v is starting"],
    ),
    (
        "CompiledAgent",
        agent(COMPILING, currentRun="r2", candidate={"run": "r2"}),
        agent(("False", "GateFailed"), "run r2 is not promoted", **verdict("Fail")),
        ["Warning GateFailed run r2 is not promoted"],
    ),
    ("CompiledAgent", agent(COMPILING), agent(("False", "AwaitingApproval"), stalled=True), ["Normal AwaitingApproval why"]),
    ("CompiledAgent", agent(COMPILING), agent(("False", "AwaitingTrigger"), stalled=True), ["Normal AwaitingTrigger why"]),
    ("CompiledAgent", agent(COMPILING), agent(("False", "CompileFailed"), stalled=True), ["Warning CompileFailed why"]),
    (
        "CompiledAgent",
        agent(("False", "CompileFailed"), stalled=True),
        agent(COMPILING),
        ["Normal Compiling why", "Normal Recovered no longer stalled by CompileFailed"],
    ),
    ("CompiledAgent", agent(COMPILING), agent(("False", "Suspended")), ["Normal Suspended why"]),
    ("CompiledAgent", agent(("False", "Suspended")), agent(COMPILING), ["Normal Resumed no longer suspended: why"]),
    ("CompiledAgent", agent(UP_TO_DATE), agent(("False", "ServingFailed"), "no GPU"), ["Warning ServingFailed no GPU"]),
    (
        "CompiledAgent",
        agent(UP_TO_DATE, history=[]),
        serving("b"),
        ["Normal Serving traffic goes to version b of run run-b (model abababab)"],
    ),
    (
        "CompiledAgent",
        serving("a"),
        serving("b", "a"),
        ["Normal TrafficMoved traffic moved from version a to version b of run run-b (model abababab)"],
    ),
    (
        "CompiledAgent",
        serving("b", "a", reason="Pinned"),
        serving("a", "b", reason="Pinned"),
        ["Normal RolledBack traffic moved back from version b to version a of run run-a (model abababab)"],
    ),
    (
        "CompiledAgent",
        serving("b", "a"),
        serving("a", "b"),
        ["Normal TrafficMoved traffic moved from version b to version a of run run-a (model abababab), which has served before"],
    ),
    (
        "CompiledAgent",
        told(Ready=("True", "Serving")),
        told(Ready=("False", "NotServing", "no replica")),
        ["Warning NotServing no replica"],
    ),
    ("CompiledAgent", told(Ready=("False", "NotServing")), told(Ready=("True", "Serving", "1 of 1")), ["Normal Serving 1 of 1"]),
    (
        "CompiledAgent",
        told(Ready=("False", "NotServing"), Stalled=("False", "NotServing")),
        told(Ready=("False", "NotServing"), Stalled=("True", "NotServing", "no replica")),
        ["Warning NotServing not ready in time, a person has to act: no replica"],
    ),
    (
        "CompiledAgent",
        {**told(Ready=("False", "NotServing")), "serving": version("a")},
        {**told(Ready=("False", "ImagePullFailed", "no such image")), "serving": version("a")},
        ["Warning ImagePullFailed no such image"],
    ),
    (
        "CompiledAgent",
        agent(COMPILING),
        {**agent(("False", "Unschedulable"), "run r waits"), "stage": "train"},
        ["Warning Unschedulable run r waits"],
    ),
    ("CompiledAgent", agent(("False", "Unschedulable"), "0/3 nodes"), agent(("False", "Unschedulable"), "0/4 nodes"), []),
    ("CompiledAgent", agent(("False", "GateFailed"), "a"), agent(("False", "GateFailed"), "b"), ["Warning GateFailed b"]),
    (
        "CompiledAgent",
        told(UpToDate=("Unknown", "Pending")),
        told(UpToDate=("Unknown", "ProcedureNotFound", "create it"), Reconciling=("True", "ProcedureNotFound")),
        [],
    ),
    (
        "CompiledAgent",
        told(UpToDate=("Unknown", "ProcedureNotFound", "create it"), Stalled=("False", "ProcedureNotFound")),
        told(UpToDate=("Unknown", "ProcedureNotFound", "create it"), Stalled=("True", "ProcedureNotFound", "create it")),
        ["Warning ProcedureNotFound create it"],
    ),
    *(
        ("CompiledAgent", told(InferencePoolReady=old), told(InferencePoolReady=new), [line] if line else [])
        for old, new, line in (
            (POOL_PENDING, POOL_BLOCKED, "Warning InferencePoolBlocked install it"),
            (POOL_BLOCKED, (*POOL_BLOCKED[:2], "no such Service"), "Warning InferencePoolBlocked no such Service"),
            (POOL_BLOCKED, POOL_PENDING, ""),
            (POOL_PENDING, POOL_READY, "Normal InferencePoolReady it has the pods of version a"),
            (POOL_READY, (*POOL_READY[:2], "it has the pods of version b"), ""),
        )
    ),
]


def lines(events: tuple[Event, ...]) -> list[str]:
    return [f"{event.type} {event.reason} {event.note}" for event in events]


@pytest.mark.parametrize(("kind", "old", "new", "events"), TABLE)
def test_a_change_makes_these_events_and_no_others(kind: str, old: Object, new: Object, events: list[str]) -> None:
    assert lines(transition_events(kind, old, new)) == events


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, old, new, _ in TABLE for status in (old, new)])
def test_a_status_that_stays_makes_none(kind: str, status: Object) -> None:
    assert transition_events(kind, status, copy.deepcopy(status)) == ()


def test_a_reason_that_the_events_do_not_know_is_a_problem_and_is_told() -> None:
    changed = agent(("False", "NewReasonOfALaterRelease"), "what to do")
    assert lines(transition_events("CompiledAgent", agent(UP_TO_DATE), changed)) == ["Warning NewReasonOfALaterRelease what to do"]


def test_a_note_that_is_too_long_is_cut_to_what_the_api_server_takes() -> None:
    assert len(fit("→" * 1000).encode()) <= NOTE_BYTES and fit("→" * 1000).endswith("…")
    assert fit(" short ") == "short"


def test_a_duration_is_said_in_its_two_largest_units() -> None:
    assert [span(seconds) for seconds in (0, 59.6, 723, 7500, -3)] == ["0 s", "1 min 0 s", "12 min 3 s", "2 h 5 min", "0 s"]


def test_the_events_of_a_life_tell_it_in_order() -> None:
    life = AgentLifecycle()
    life.in_passing()
    life.serve()
    told = [(key.kind, event.reason) for key, event in life.world.events]
    assert [reason for kind, reason in told if kind == "CompileRun"] == [
        "Created",
        *("StageStarted", "Infrastructure", "StageRetried", "StageSucceeded"),
        *("StageStarted", "StageSucceeded", "StageStarted", "StageSucceeded", "GatePassed", "Succeeded"),
    ]
    assert [reason for kind, reason in told if kind == "CompiledAgent"] == [
        *("RunCreated", "GatePassed", "Starting", "Serving", "UpToDate"),
    ]
    assert [reason for kind, reason in told if kind == "Procedure"] == ["Valid"]


def test_a_rollback_by_pin_and_the_way_forward_are_told() -> None:
    life = AgentLifecycle()
    life.serve()
    life.edit()
    life.serve()
    life.world.events.clear()
    life.pin(0)
    life.ready()
    assert {"RolledBack", "Pinned"} <= {event.reason for _, event in life.world.events}
    life.world.events.clear()
    life.promote(pin=None)
    life.ready()
    assert {"TrafficMoved", "UpToDate"} <= {event.reason for _, event in life.world.events}


@pytest.mark.parametrize("seed", range(3))
def test_in_any_order_of_acts_nothing_is_told_at_rest_and_warnings_are_problems(seed: int) -> None:
    choice, life = random.Random(seed), AgentLifecycle()
    acts = [life.stage, life.run, life.in_passing, life.ready, life.deadline, life.edit, life.edit_back, life.break_procedure]
    acts += [life.suspend, life.retry, life.lose_jobs, life.lose_run, life.lose_service]
    for _ in range(30):
        choice.choice(acts)()
        count = len(life.world.events)
        assert life.world.settle() == 0 and len(life.world.events) == count
    fine = {Reason.SUSPENDED, Reason.SUPERSEDED, Reason.SERVING, Reason.VALID, Reason.UP_TO_DATE, Reason.COMPILING}
    for _, event in life.world.events:
        assert event.note and len(event.note.encode()) <= NOTE_BYTES and event.action
        assert event.type == "Normal" or event.reason not in fine


def test_the_reference_has_every_reason_of_the_table_and_of_the_events() -> None:
    page = (ROOT / "docs/reference/events.md").read_text()
    used = {str(reason) for reason in EventReason} | {line.split()[1] for *_, events in TABLE for line in events}
    used -= {"Unschedulable", "ImagePullFailed"}  # reasons of pods are those of conditions
    assert {reason for reason in used if f"`{reason}`" not in page} == set()
