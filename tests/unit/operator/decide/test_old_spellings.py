"""Annotations as earlier releases spelled them: still read, never written, and an upgrade changes nothing."""

from datetime import timedelta
from typing import Any

import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.retry import RetryRequest, retry_request
from subterra_operator.decide.run.run import decide_run
from subterra_operator.labels import MADE, OLD_SPELLINGS, annotation, annotation_patch, annotations_of
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, RunSnapshot
from subterra_operator.specs.compile_run import compile_run
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.traffic.service import service
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import recorded

OLD_RETRY, NEW_RETRY = "subterra.dev/retryAt", "subterra.dev/retry-at"
OLD_SUPERSEDED, NEW_SUPERSEDED = "subterra.dev/supersededBy", "subterra.dev/superseded-by"
OLD_STARTED, NEW_STARTED = "subterra.dev/startedAt", "subterra.dev/started-at"
OLD_SERVING, NEW_SERVING = "subterra.dev/servingSince", "subterra.dev/serving-since"
SETTINGS = Settings()
FAILED_STAGE = {"name": "generate", "state": "Failed", "attempt": 1, "reason": "InvalidInput"}


def respelled(obj: Object) -> Object:
    """The object as an earlier release wrote it."""
    present = annotations_of(obj)
    annotations = {OLD_SPELLINGS.get(key, key): value for key, value in present.items()}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def decide(agent: Object, later: float = 0, **parts: Any) -> Decision:
    parts.setdefault("procedure", make.procedure())
    return decide_agent(AgentSnapshot(agent, **parts), SETTINGS, make.NOW + timedelta(seconds=later))


def patches(decision: Decision, kind: str) -> list[Object]:
    return [write.object for write in decision.writes if write.verb == "patch" and write.key.kind == kind]


def wanted_run(agent: Object, status: Object | None = None, **annotations: str) -> Object:
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    assert spec.compile
    run = make.stored(compile_run(agent, spec, spec.compile, make.TRAVEL_DIGEST))
    run["metadata"]["annotations"] = annotations
    return {**run, "status": status or {"observedGeneration": 1, "conditions": []}}


@pytest.mark.parametrize(
    ("annotations", "recorded", "request_"),
    [
        ({}, "old", RetryRequest()),
        ({OLD_RETRY: "a"}, None, RetryRequest("a", "a")),
        ({OLD_RETRY: "a"}, "a", RetryRequest("a", None)),
        ({NEW_RETRY: "a"}, "a", RetryRequest("a", None)),
        ({NEW_RETRY: "b"}, "a", RetryRequest("b", "b")),
        ({NEW_RETRY: "a", OLD_RETRY: "a"}, "a", RetryRequest("a", None)),
        ({NEW_RETRY: "b", OLD_RETRY: "a"}, "a", RetryRequest("b, a", "b")),
        ({NEW_RETRY: "b", OLD_RETRY: "a"}, "b, a", RetryRequest("b, a", None)),
        ({NEW_RETRY: "b", OLD_RETRY: "c"}, "b, a", RetryRequest("b, c", "c")),
        ({NEW_RETRY: "b"}, "b, a", RetryRequest("b", None)),
        ({OLD_RETRY: "a"}, "b, a", RetryRequest("a", None)),
        ({NEW_RETRY: "x, y", OLD_RETRY: "z"}, "x, y, z", RetryRequest("x, y, z", None)),
    ],
)
def test_a_change_of_either_spelling_is_a_request_and_nothing_else_is(
    annotations: dict[str, str], recorded: str | None, request_: RetryRequest
) -> None:
    assert retry_request(make.agent(annotations=annotations), recorded) == request_


def run_after_failure(recorded: str | None, **annotations: str) -> Decision:
    status = {"stages": [FAILED_STAGE], "retryAt": recorded} if recorded else {"stages": [FAILED_STAGE]}
    run = make.run(status, annotations=annotations)
    return decide_run(RunSnapshot(run, make.procedure(), make.frozen(run)), SETTINGS, make.NOW)


def test_an_upgrade_does_not_retry_a_failed_run_whose_old_annotation_was_obeyed() -> None:
    decision = run_after_failure("2026-11-20T11:00:00Z", **{OLD_RETRY: "2026-11-20T11:00:00Z"})
    assert decision.writes == ()
    assert decision.status
    assert decision.status["retryAt"] == "2026-11-20T11:00:00Z"


def test_spelling_the_annotation_anew_with_the_same_value_retries_nothing() -> None:
    assert run_after_failure("2026-11-20T11:00:00Z", **{NEW_RETRY: "2026-11-20T11:00:00Z"}).writes == ()


def test_the_old_annotation_still_asks_for_a_retry() -> None:
    decision = run_after_failure(None, **{OLD_RETRY: "2026-11-20T11:00:00Z"})
    assert [write.key.name for write in decision.writes if write.key.kind == "Job"] == ["travel-12345678-generate-2"]


def test_an_upgrade_passes_no_obeyed_request_on_to_the_run() -> None:
    agent = make.agent(status={"retryAt": "a"}, annotations={OLD_RETRY: "a"})
    assert patches(decide(agent, runs=(wanted_run(agent, **{OLD_RETRY: "a"}),)), "CompileRun") == []


def test_a_request_that_the_run_already_has_under_the_old_spelling_is_not_written_again() -> None:
    agent = make.agent(annotations={OLD_RETRY: "a"})
    assert patches(decide(agent, runs=(wanted_run(agent, **{OLD_RETRY: "a"}),)), "CompileRun") == []


def test_a_new_request_replaces_the_old_spelling_on_the_run() -> None:
    agent = make.agent(status={"retryAt": "a"}, annotations={OLD_RETRY: "a", NEW_RETRY: "b"})
    decision = decide(agent, runs=(wanted_run(agent, **{OLD_RETRY: "a"}),))
    [patch] = patches(decision, "CompileRun")
    assert patch["metadata"]["annotations"] == {NEW_RETRY: "b", OLD_RETRY: None}
    assert decision.status
    assert decision.status["retryAt"] == "b, a"


def test_a_run_that_was_superseded_before_the_upgrade_still_is() -> None:
    run = make.run({"stages": []}, {"suspend": True}, annotations={OLD_SUPERSEDED: "travel-newer"})
    decision = decide_run(RunSnapshot(run, make.procedure()), SETTINGS, make.NOW)
    assert decision.status
    assert decision.status["conditions"][0]["reason"] == "Superseded"


def test_an_upgrade_does_not_supersede_a_run_twice() -> None:
    agent = make.agent()
    name = wanted_run(agent)["metadata"]["name"]
    older = wanted_run(agent, **{OLD_SUPERSEDED: name})
    older["metadata"] |= {"name": "travel-older", "uid": "older"}
    assert patches(decide(agent, runs=(older,)), "CompileRun") == []


def test_a_superseded_run_is_resumed_whatever_the_spelling() -> None:
    agent = make.agent()
    run = wanted_run(agent, **{OLD_SUPERSEDED: "travel-other"})
    [patch] = patches(decide(agent, runs=(run,)), "CompileRun")
    assert patch["metadata"]["annotations"] == {OLD_SUPERSEDED: None}


def served(agent: Object, digest: str = "sha256:m", ready: int = 1) -> tuple[Object, Object]:
    """A Deployment of an earlier release, and the Service in front of it."""
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    target = ServingTarget(Model("models/1", "travel"), digest)
    built = deployment(agent, spec, target, SETTINGS, make.NOW)
    counts = dict.fromkeys(("readyReplicas", "availableReplicas", "updatedReplicas"), ready)
    deployed = respelled(make.stored(built, observedGeneration=1, **counts))
    version = deployed["metadata"]["labels"]["subterra.dev/version"]
    return deployed, respelled(make.stored(service(agent, 8000, version, make.NOW)))


def model_agent(digest: str = "sha256:m") -> Object:
    spec = {"model": {"uri": "pvc://models/1", "digest": digest}}
    return {**make.agent(), "spec": spec}


DIGEST = "sha256:" + "d" * 64


def test_objects_of_an_earlier_release_are_left_as_they_are() -> None:
    agent = model_agent(DIGEST)
    deployed, traffic = served(agent, DIGEST)
    assert set(OLD_SPELLINGS.values()) & set(annotations_of(deployed)) == {OLD_STARTED}
    decision = decide(agent, deployments=(deployed,), service=traffic)
    [written] = [write.object for write in decision.writes if write.verb != "apply"]
    assert "spec" not in written
    assert list(written["metadata"]["annotations"]) == [MADE], "nothing but the record that drift is measured by"
    assert decision.status
    assert decision.status["serving"]["since"] == "2026-11-20T12:00:00Z"


def test_the_deadline_counts_from_the_old_annotation_too() -> None:
    agent = model_agent(DIGEST)
    deployed, _ = served(agent, DIGEST, ready=0)
    deployed["metadata"]["creationTimestamp"] = "2026-11-01T12:00:00Z"
    deployed = recorded(deployed)
    assert patches(decide(agent, later=60, deployments=(deployed,)), "Deployment") == []
    [given_up] = patches(decide(agent, later=901, deployments=(deployed,)), "Deployment")
    assert given_up["spec"] == {"replicas": 0}


def test_moving_traffic_replaces_the_old_annotation() -> None:
    agent = model_agent(DIGEST)
    deployed, _ = served(agent, DIGEST)
    _, traffic = served(agent, "sha256:" + "e" * 64)
    [moved] = patches(decide(agent, later=60, deployments=(deployed,), service=traffic), "Service")
    assert moved["metadata"]["annotations"] == {NEW_SERVING: "2026-11-20T12:01:00Z", OLD_SERVING: None}


def test_a_new_spelling_wins_over_an_old_one() -> None:
    both = make.agent(annotations={NEW_STARTED: "later", OLD_STARTED: "earlier"})
    assert annotation(both, NEW_STARTED) == "later"
    assert annotation_patch(both, NEW_STARTED, None) == {NEW_STARTED: None, OLD_STARTED: None}
    assert annotation_patch(make.agent(), NEW_STARTED, None) == {}
