"""Evictions, drains, spot reclaims and deletions: no failure, however many, and the finished work goes on."""

from collections.abc import Sequence

import pytest
from tests.unit.operator.decide import pods

from subterra_api.job_contract.messages import Progress
from subterra_operator.decide.decision import Decision
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition, message

DRAINED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
    "lastTransitionTime": make.CREATED,
}
FAILED_JOB = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
TOLD = "Eviction API: evicting"


def ended_pod(code: int = 143, conditions: Sequence[Object] = (), **status: object) -> Object:
    main = pods.container("main", {"terminated": pods.ended(code, "stopped by a signal")})
    return {"phase": "Failed", "conditions": list(conditions), "containerStatuses": [main], **status}


def after(run: Object, pod_status: Object | None, later: float = 31, attempt: int = 1) -> Decision:
    """The decision once the pod of an attempt at the first stage has ended so, or has vanished."""
    job = runs.job(run, "generate", attempt, startTime=make.CREATED, conditions=[FAILED_JOB])
    found = ({**make.pod_of(job), "status": pod_status},) if pod_status else ()
    return runs.decide(run, later, input=make.frozen(run), jobs=(job,), pods=found)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ended_pod(143), "the pod was asked to end (signal 15)"),
        (ended_pod(137, [DRAINED]), f"the pod was ended: EvictionByEvictionAPI: {TOLD}"),
        (ended_pod(1, [DRAINED]), f"the pod was ended: EvictionByEvictionAPI: {TOLD}"),
        ({"phase": "Failed", "reason": "NodeShutdown", "message": "Pod was terminated"}, "the pod was ended: NodeShutdown"),
        (None, "the pod was evicted or deleted"),
    ],
)
def test_a_disruption_costs_no_attempt_and_says_what_happened_and_what_follows(status: Object | None, words: str) -> None:
    decision = after(make.run(runs.started()), status)
    stage = runs.stage(decision, "generate")
    assert (stage["state"], stage["reason"], stage["retries"], stage["disruptions"]) == ("Pending", "Disrupted", 0, 1)
    assert stage["message"].startswith(words)
    assert stage["message"].endswith("attempt 2 begins in 20 s and goes on with the finished work; this counts as no failure")
    assert condition(decision, "Reconciling") == ("True", "Disrupted")
    assert condition(decision, "Stalled") == ("False", "Disrupted")
    assert message(decision, "Succeeded").startswith(f"generate: {words}")


@pytest.mark.parametrize(
    "status",
    [
        ended_pod(137),
        ended_pod(
            137,
            [DRAINED],
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
        ),
    ],
    ids=["killed by nobody knows whom", "used more disk than it may"],
)
def test_what_would_happen_again_is_a_failure(status: Object) -> None:
    stage = runs.stage(after(make.run(runs.started()), status), "generate")
    assert (stage["state"], stage["reason"]) == ("Pending", "Infrastructure")
    assert "disruptions" not in stage


def test_ten_evictions_in_a_row_fail_nothing_and_pauses_grow_to_a_quarter_of_an_hour() -> None:
    run, now, waits = make.run(runs.started()), 31.0, []
    for attempt in range(1, 11):
        decision = after(run, ended_pod(143), now, attempt)
        assert decision.recheck_after is not None
        waits.append(decision.recheck_after)
        run = {**run, "status": decision.status}
        assert runs.created(runs.decide(run, now + waits[-1] - 1, input=make.frozen(run))) == []
        now += waits[-1]
        begun = runs.decide(run, now, input=make.frozen(run))
        assert runs.created(begun) == [f"travel-12345678-generate-{attempt + 1}"]
        run = {**run, "status": begun.status}
    assert waits == [20, 40, 80, 160, 320, 640, 900, 900, 900, 900]
    assert (runs.stage(begun, "generate")["retries"], condition(begun, "Stalled")) == (0, ("False", "Running"))


def reporting(run: Object, attempt: int, progress: Progress | None) -> Object:
    """The run while the pod of an attempt at the first stage runs and reports this."""
    job = runs.job(run, "generate", attempt, startTime=make.CREATED)
    pod = make.pod_of(job, running={})
    reports = {pod["metadata"]["name"]: progress} if progress else {}
    decision = runs.decide(run, 31, input=make.frozen(run), jobs=(job,), pods=(pod,), progress=reports)
    return {**run, "status": decision.status}


def next_attempt(run: Object, attempt: int) -> Object:
    """The run after this attempt was evicted and the next one has begun."""
    evicted = {**run, "status": after(run, ended_pod(143), attempt=attempt).status}
    return {**evicted, "status": runs.decide(evicted, 1000, input=make.frozen(evicted)).status}


def first_stage(run: Object) -> Object:
    return dict(run["status"]["stages"][0])


def test_an_attempt_that_got_on_begins_a_new_row_and_one_that_only_finds_the_finished_work_does_not() -> None:
    at_40 = Progress(stage="generate", percent=40, usd="1.5", tokens=900)
    run = next_attempt(reporting(make.run(runs.started()), 1, at_40), 1)
    assert (first_stage(run)["disruptions"], first_stage(run)["percent"], first_stage(run)["usd"]) == (1, 40, "1.5")
    run = reporting(reporting(run, 2, Progress(stage="generate")), 2, at_40.model_copy(update={"percent": 38}))
    assert (first_stage(run)["percent"], first_stage(run)["usd"], first_stage(run)["tokens"]) == (40, "1.5", 900)
    run = next_attempt(run, 2)
    assert first_stage(run)["disruptions"] == 2, "it only had what was there before"
    run = reporting(run, 3, at_40.model_copy(update={"percent": 41}))
    assert "disruptions" not in first_stage(run)
    assert first_stage(next_attempt(run, 3))["disruptions"] == 1


@pytest.mark.parametrize("nonsense", ["much", "NaN", "-1", ""])
def test_an_amount_that_is_none_takes_nothing_from_what_is_known_to_be_paid(nonsense: str) -> None:
    run = reporting(make.run(runs.started(usd="1.5", tokens=900)), 1, Progress(stage="generate", percent=40, usd=nonsense))
    assert (first_stage(run)["usd"], first_stage(run)["tokens"], first_stage(run)["percent"]) == ("1.5", 900, 40)


def terminating(seconds: float) -> Decision:
    """The decision so long after a pod should have ended, on a node that does not confirm it."""
    run = make.run(runs.started())
    job = runs.job(run, "generate", startTime=make.CREATED, active=1)
    pod = make.pod_of(job, running={})
    pod["metadata"]["deletionTimestamp"] = make.CREATED
    pod["spec"] = {"nodeName": "spot-1"}
    return runs.decide(run, seconds, input=make.frozen(run), jobs=(job,), pods=(pod,))


def test_a_pod_whose_node_does_not_confirm_its_end_is_named_with_what_ends_it() -> None:
    soon = terminating(-60)
    assert (condition(soon, "Reconciling"), soon.recheck_after) == (("True", "Running"), 90)
    decision = terminating(31)
    assert condition(decision, "Reconciling") == ("True", "Disrupted")
    assert condition(decision, "Stalled") == ("False", "Disrupted")
    told = message(decision, "Reconciling")
    assert "generate: pod travel-12345678-generate-1-abcde was ended, and node spot-1 does not confirm" in told
    assert "kubectl delete node spot-1" in told
    assert "kubectl taint node spot-1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in told
    assert (runs.stage(decision, "generate")["attempt"], runs.created(decision)) == (1, []), "two at once would both write"


def test_a_failure_after_disruptions_is_still_the_first_of_three() -> None:
    run = make.run(runs.started(attempt=7, disruptions=6))
    stage = runs.stage(after(run, ended_pod(14), attempt=7), "generate")
    assert (stage["state"], stage["reason"], stage["retries"]) == ("Pending", "Infrastructure", 0)


def test_an_attempt_that_was_created_but_not_written_keeps_the_count() -> None:
    run = make.run(runs.started(state="Pending", reason="Disrupted", disruptions=2, finishedAt=make.CREATED))
    job = runs.job(run, "generate", 2, startTime=make.CREATED)
    stage = runs.stage(runs.decide(run, 31, input=make.frozen(run), jobs=(job,)), "generate")
    assert (stage["state"], stage["attempt"], stage["retries"], stage["disruptions"]) == ("Running", 2, 0, 2)
