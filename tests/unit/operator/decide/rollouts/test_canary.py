"""`promotion.canary`, decision by decision: steps, aborts, and everything that can happen in between."""

from typing import Any

import pytest

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.agent.traffic_objects import routing
from subterra_operator.decide.decision import Decision
from subterra_operator.labels import CANARY_ABORTED, FAILURE_REASON
from subterra_operator.resources import Object
from subterra_operator.snapshot import AgentSnapshot, Refusal
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, other_run, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message

STEPS = [{"weight": 10, "seconds": 600}, {"weight": 50, "seconds": 300}]
GATEWAY = {"name": "public", "namespace": "infra"}
ACCEPTED = {"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}]}
ENOUGH = 20
GIVEN_UP = {FAILURE_REASON: "its canary was aborted in step 1 of 2", CANARY_ABORTED: "true"}


class Traffic:
    """An agent with a canary: an old version with traffic, the wanted one, and the route as it was last written."""

    def __init__(self, **canary: Any) -> None:
        self.agent = make.agent(promotion={"canary": {"gateway": GATEWAY, "steps": STEPS, **canary}})
        self.run, self.older = wanted_run(self.agent), other_run(self.agent)
        self.old, self.new = version(self.agent, self.older), version(self.agent, self.run)
        self.service = traffic_to(self.agent, self.old)
        self.name = self.new["metadata"]["labels"]["subterra.dev/version"]
        self.parts: dict[str, Any] = {}
        self.write_routes(Decision(routing(self.snapshot, CompiledAgentSpec.model_validate(self.agent["spec"]), None)))
        self.parts["route"]["status"] = {"parents": [ACCEPTED]}

    @property
    def snapshot(self) -> AgentSnapshot:
        return AgentSnapshot(self.agent, service=self.service)

    def write_routes(self, decision: Decision) -> None:
        """Stores the route and the canary's Service as the decision writes them."""
        for write in decision.writes:
            part = {"HTTPRoute": "route", "Service": "canary_service"}.get(write.key.kind)
            if part and write.key.name in ("travel", "travel-canary") and (write.key.kind, write.key.name) != ("Service", "travel"):
                known = self.parts.get(part) or make.stored(write.object)
                self.parts[part] = known | {"spec": write.object["spec"]}

    def decide(self, later: float = 0, requests: int = 0, errors: int = 0, **parts: Any) -> Decision:
        """Decides and keeps status, route and the canary's Service; ``requests`` are all that the new version has answered."""
        work = {self.name: ServedWork(requests=requests, failed_requests=errors)}
        given = {"runs": (self.run, self.older), "deployments": (self.old, self.new), "service": self.service, "work": work}
        decision = decide(self.agent, later, **given | self.parts | parts)
        self.agent["status"] = decision.status
        self.write_routes(decision)
        return decision

    @property
    def weights(self) -> dict[str, int]:
        """What the route says."""
        [rule] = self.parts["route"]["spec"]["rules"]
        return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


ALL_OLD = {"travel": 100}


def step(decision: Decision) -> Any:
    """Number of the step that a status records; `None` without a canary."""
    assert decision.status
    return decision.status.get("canary", {}).get("step")


def moved(decision: Decision) -> bool:
    return any(write.key == ("Service", "demo", "travel") for write in decision.writes)


def stopped(decision: Decision) -> list[Object]:
    """Changes of Deployments that scale to zero."""
    found = [write.object for write in decision.writes if write.key.kind == "Deployment"]
    return [obj for obj in found if obj.get("spec", {}).get("replicas") == 0]


def not_ready(deployment: Object) -> Object:
    counts = dict.fromkeys(("readyReplicas", "availableReplicas"), 0)
    return {**deployment, "status": {**deployment["status"], **counts}}


def test_traffic_goes_in_steps_and_moves_as_a_whole_at_the_end() -> None:
    traffic = Traffic()
    assert traffic.weights == ALL_OLD
    first = traffic.decide()
    kinds = [
        f"{write.verb} {write.key.kind} {write.key.name}" for write in first.writes if write.key.kind in ("Service", "HTTPRoute")
    ]
    assert kinds == ["create Service travel-canary", "patch HTTPRoute travel"], "a route never names a Service that is missing"
    assert traffic.parts["canary_service"]["spec"]["selector"]["subterra.dev/version"] == traffic.name
    assert (traffic.weights, condition(first, "UpToDate"), first.recheck_after) == (
        {"travel": 90, "travel-canary": 10},
        ("False", "Canary"),
        600,
    )
    assert condition(first, "Ready") == ("True", "Serving")
    assert first.status
    assert (first.status["phase"], first.status["stage"]) == ("Promoting", "canary, 10 %")
    early = traffic.decide(599, ENOUGH)
    assert (step(early), early.recheck_after, moved(early)) == (1, 1, False)
    second = traffic.decide(600, ENOUGH)
    assert (step(second), traffic.weights) == (2, {"travel": 50, "travel-canary": 50})
    assert not moved(traffic.decide(899, 2 * ENOUGH))
    last = traffic.decide(900, 2 * ENOUGH)
    assert (moved(last), step(last), traffic.weights) == (True, None, {"travel": 50, "travel-canary": 50})
    traffic.service = traffic_to(traffic.agent, traffic.new)
    done = traffic.decide(901, 2 * ENOUGH)
    assert (traffic.weights, condition(done, "UpToDate")) == (ALL_OLD, ("True", "UpToDate"))
    assert not [write for write in traffic.decide(902).writes if write.key.kind in ("HTTPRoute", "Service")], (
        "at rest, nothing is written"
    )


def test_a_step_does_not_end_before_enough_requests_were_answered_in_it() -> None:
    traffic = Traffic()
    traffic.decide()
    waiting = traffic.decide(3600, ENOUGH - 1)
    assert step(waiting) == 1
    assert "as soon as it has answered 20 requests (spec.promotion.canary.minRequests)" in message(waiting, "UpToDate")
    assert step(traffic.decide(3601, ENOUGH)) == 2
    assert step(traffic.decide(7200, 2 * ENOUGH - 1)) == 2, "those of the first step do not count in the second"
    assert moved(traffic.decide(7201, 2 * ENOUGH))


def test_without_a_number_of_requests_a_step_ends_by_its_time_alone() -> None:
    traffic = Traffic(minRequests=0)
    traffic.decide()
    assert step(traffic.decide(600)) == 2


def test_too_many_errors_abort_at_once_and_the_version_is_not_tried_again() -> None:
    traffic = Traffic(maxErrorRate=0.1)
    traffic.decide()
    assert step(traffic.decide(30, ENOUGH - 1, 5)) == 1, "too few requests to tell"
    assert step(traffic.decide(60, 50, 5)) == 1, "exactly as many as are allowed"
    aborted = traffic.decide(90, 50, 6)
    writes = [write.key.kind for write in aborted.writes if write.key.kind in ("HTTPRoute", "Deployment")]
    assert (traffic.weights, writes) == (ALL_OLD, ["HTTPRoute", "Deployment"]), "it gets no requests any more before it stops"
    [change] = stopped(aborted)
    assert change["metadata"]["name"] == traffic.new["metadata"]["name"]
    assert (condition(aborted, "UpToDate"), condition(aborted, "Ready")) == (("False", "CanaryAborted"), ("True", "Serving"))
    text = message(aborted, "UpToDate")
    assert "in step 1 of 2, with 10 % of the gateway's requests: 6 of 50 requests failed" in text
    assert "set the annotation subterra.dev/retry-at" in text
    traffic.new = version(traffic.agent, traffic.run, 0, **change["metadata"]["annotations"])
    later = traffic.decide(9000)
    assert (condition(later, "UpToDate"), message(later, "UpToDate")) == (("False", "CanaryAborted"), text)
    assert (step(later), traffic.weights, moved(later)) == (None, ALL_OLD, False)


def test_a_retry_begins_with_the_first_step() -> None:
    traffic = Traffic()
    traffic.new = version(traffic.agent, traffic.run, 0, **GIVEN_UP)
    traffic.agent["metadata"]["annotations"] = {"subterra.dev/retry-at": "2026-11-20T12:00:00Z"}
    restarted = traffic.decide()
    assert (condition(restarted, "UpToDate"), step(restarted)) == (("False", "Starting"), None)
    [change] = [write.object for write in restarted.writes if write.key.kind == "Deployment"]
    assert {change["metadata"]["annotations"][name] for name in GIVEN_UP} == {None}
    traffic.new = version(traffic.agent, traffic.run)
    assert step(traffic.decide(60)) == 1


def test_a_version_whose_pods_are_not_ready_any_more_is_aborted() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.new = not_ready(traffic.new)
    aborted = traffic.decide(30)
    assert (traffic.weights, condition(aborted, "UpToDate")) == (ALL_OLD, ("False", "CanaryAborted"))
    assert "none of its pods is ready" in message(aborted, "UpToDate")


def test_a_container_that_crashed_aborts_although_another_pod_is_ready() -> None:
    traffic = Traffic()
    traffic.decide()
    ended = {"terminated": {"exitCode": 139, "reason": "Error", "finishedAt": make.CREATED}}
    vllm = {
        "name": "vllm",
        "restartCount": 1,
        "ready": False,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended,
    }
    labels = traffic.new["spec"]["template"]["metadata"]["labels"]
    metadata = {"name": "travel-x", "namespace": "demo", "uid": "p", "creationTimestamp": make.CREATED, "labels": labels}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running", "containerStatuses": [vllm]}}
    aborted = traffic.decide(30, pods=(pod,))
    assert (traffic.weights, condition(aborted, "UpToDate")) == (ALL_OLD, ("False", "CanaryAborted"))
    assert "container vllm was restarted once; it last ended with exit code 139" in message(aborted, "UpToDate")


def test_another_operator_goes_on_from_the_status() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.decide(600, 1000)
    assert traffic.agent["status"]["canary"]["requestsBefore"] == 1000
    restarted = traffic.decide(700, ENOUGH, 15)  # it has not seen the pods that are gone
    assert condition(restarted, "UpToDate") == ("False", "CanaryAborted"), "what it knows counts from the pods' start"


def test_a_pin_to_what_serves_takes_the_share_back() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.agent["spec"]["promotion"]["pin"] = traffic.older["status"]["artifacts"]["model"]
    pinned = traffic.decide(60)
    assert (traffic.weights, step(pinned), condition(pinned, "UpToDate")) == (ALL_OLD, None, ("False", "Pinned"))


def test_a_version_that_has_served_before_gets_all_traffic_at_once() -> None:
    traffic = Traffic()
    digest = traffic.run["status"]["artifacts"]["model"]
    traffic.agent["status"] = {"history": [{"version": traffic.name, "modelDigest": digest, "modelPath": "models/1"}]}
    assert moved(traffic.decide())


def test_an_edit_in_the_middle_takes_the_share_back_until_its_own_version_is_ready() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.run = wanted_run(traffic.agent, verdict=None)
    edited = traffic.decide(60)
    assert (traffic.weights, step(edited)) == (ALL_OLD, None)
    assert condition(edited, "UpToDate") == ("False", "Compiling")
    traffic.run = wanted_run(traffic.agent)
    assert traffic.decide(120).status
    assert traffic.agent["status"]["canary"]["since"] == "2026-11-20T12:02:00Z", "it begins again"


def test_suspending_compiles_does_not_hold_a_canary() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.agent["spec"]["compile"]["suspend"] = True
    assert step(traffic.decide(600, ENOUGH)) == 2


def test_scaling_to_zero_takes_the_share_back() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.agent["spec"]["serving"] = {"replicas": 0}
    asleep = traffic.decide(60)
    assert (traffic.weights, step(asleep), condition(asleep, "UpToDate")) == (ALL_OLD, None, ("False", "ScaledToZero"))


def test_more_replicas_in_the_middle_hold_the_step_and_abort_nothing() -> None:
    traffic = Traffic(minRequests=0)
    traffic.decide()
    traffic.agent["spec"]["serving"] = {"replicas": 2}
    held = traffic.decide(600)
    assert (step(held), traffic.weights) == (1, {"travel": 90, "travel-canary": 10})
    assert "as soon as all its replicas are ready" in message(held, "UpToDate")
    changes = {write.key.name: write.object["spec"]["replicas"] for write in held.writes if write.key.kind == "Deployment"}
    assert changes == {traffic.new["metadata"]["name"]: 2, traffic.old["metadata"]["name"]: 2}


@pytest.mark.parametrize(("first", "rest"), [(5, []), (20, STEPS[1:])])
def test_edited_steps_count_at_once(first: int, rest: list[Object]) -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.agent["spec"]["promotion"]["canary"]["steps"] = [{"weight": first, "seconds": 600}, *rest]
    traffic.decide(60)
    assert traffic.weights["travel-canary"] == first


def test_without_the_gateway_api_nothing_new_is_started_or_gets_traffic() -> None:
    traffic = Traffic()
    blocked = traffic.decide(http_routes=False, route=None, deployments=(traffic.old,))
    assert condition(blocked, "UpToDate") == ("False", "CanaryBlocked")
    assert "install the Gateway API (https://gateway-api.sigs.k8s.io)" in message(blocked, "UpToDate")
    assert not [write for write in blocked.writes if write.key.kind in ("Deployment", "Service", "HTTPRoute")]
    assert condition(blocked, "Ready") == ("True", "Serving")


def test_what_serves_says_early_that_the_next_version_will_get_no_traffic() -> None:
    traffic = Traffic()
    traffic.service = traffic_to(traffic.agent, traffic.new)
    decision = traffic.decide(http_routes=False, route=None)
    assert condition(decision, "UpToDate") == ("False", "CanaryBlocked")
    assert "the next version will get no traffic" in message(decision, "UpToDate")


def test_a_route_that_no_gateway_accepts_blocks_with_its_words() -> None:
    traffic = Traffic()
    refused = [{"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "no listener allows it"}]
    traffic.parts["route"]["status"] = {"parents": [{"conditions": refused}]}
    blocked = traffic.decide()
    assert (condition(blocked, "UpToDate"), traffic.weights) == (("False", "CanaryBlocked"), ALL_OLD)
    assert "(NotAllowedByListeners: no listener allows it); check that Gateway infra/public exists" in message(blocked, "UpToDate")


def test_the_first_version_serves_at_once_and_gets_a_route() -> None:
    traffic = Traffic()
    first = decide(traffic.agent, runs=(traffic.run,), deployments=(traffic.new,))
    assert moved(first)
    assert not [write for write in first.writes if write.key.kind == "HTTPRoute"]
    traffic.parts = {}
    traffic.service = traffic_to(traffic.agent, traffic.new)
    traffic.decide(1, deployments=(traffic.new,))
    assert traffic.weights == ALL_OLD


def test_all_traffic_moves_at_once_where_nothing_answers() -> None:
    traffic = Traffic()
    traffic.old = not_ready(traffic.old)
    assert moved(traffic.decide())


def test_a_share_stays_what_it_is_while_the_old_version_is_away_for_a_moment() -> None:
    traffic = Traffic()
    traffic.decide()
    assert step(traffic.decide(60, deployments=(not_ready(traffic.old), traffic.new))) == 1


def test_an_agent_without_a_canary_gives_its_route_up() -> None:
    traffic = Traffic()
    traffic.decide()
    del traffic.agent["spec"]["promotion"]["canary"]
    decision = traffic.decide(60)
    assert ([obj["kind"] for obj in decision.deletes], moved(decision)) == (["HTTPRoute"], True)


def test_a_route_that_somebody_edited_is_restored() -> None:
    traffic = Traffic()
    traffic.decide()
    traffic.parts["route"]["spec"]["hostnames"] = ["other.example"]
    traffic.decide(60)
    assert traffic.parts["route"]["spec"]["hostnames"] == []


def test_after_a_refused_write_the_step_is_the_one_before() -> None:
    traffic = Traffic()
    refused = traffic.decide(refusal=Refusal(Reason.REFUSED, "HTTPRoute demo/travel was refused"))
    assert (step(refused), condition(refused, "UpToDate")) == (None, ("False", "Refused"))


def test_canaries_and_recreate_exclude_each_other() -> None:
    traffic = Traffic()
    traffic.agent["spec"]["promotion"]["rollout"] = "Recreate"
    assert condition(traffic.decide(), "UpToDate") == ("False", "InvalidSpec")
