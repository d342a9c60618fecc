"""`serving.inferencePool`, decision by decision: the pool has the pods of the version with traffic, whatever happens."""

from typing import Any

import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.agent.candidate import target_of
from subterra_operator.decide.decision import Decision
from subterra_operator.labels import FAILURE_REASON
from subterra_operator.resources import Object
from subterra_operator.snapshot import Refusal
from subterra_operator.specs.deployment import version_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, other_run, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message

POOL = {"endpointPicker": {"name": "picker"}}
READY = "InferencePoolReady"


class Pooled:
    """An agent with an InferencePool: an old version with traffic, the wanted one, and the pool as it was last written."""

    def __init__(self, **promotion: Any) -> None:
        self.agent = make.agent(serving={"inferencePool": POOL}, promotion=promotion)
        self.run, self.older = wanted_run(self.agent), other_run(self.agent)
        self.old, self.new = version(self.agent, self.older), version(self.agent, self.run)
        self.service = traffic_to(self.agent, self.old)
        self.pool: Object | None = None

    def decide(self, later: float = 0, **parts: Any) -> Decision:
        """Decides, and keeps the status, the Service's traffic and the pool as they are written."""
        known = {"runs": (self.run, self.older), "deployments": (self.old, self.new), "service": self.service}
        decision = decide(self.agent, later, **known | {"inference_pool": self.pool} | parts)
        self.agent["status"] = decision.status
        for write in decision.writes:
            if write.key.kind == "InferencePool":
                self.pool = (self.pool or make.stored(write.object)) | {"spec": written(write.object["spec"])}
            elif write.key.kind == "Service":
                self.service = traffic_to(self.agent, self.new)
        return decision

    @property
    def version(self) -> str:
        """The version in the pool's selector."""
        assert self.pool
        found: str = self.pool["spec"]["selector"]["matchLabels"]["subterra.dev/version"]
        return found


def written(spec: Object) -> Object:
    """What a merge patch of a spec leaves: no nulls."""
    labels = {key: value for key, value in spec["selector"]["matchLabels"].items() if value is not None}
    return {**spec, "selector": {"matchLabels": labels}}


def name(deployed: Object) -> str:
    found: str = deployed["metadata"]["labels"]["subterra.dev/version"]
    return found


def traffic_writes(decision: Decision) -> list[str]:
    return [f"{write.verb} {write.key.kind}" for write in decision.writes if write.key.kind in ("Service", "InferencePool")]


def settled(**promotion: Any) -> Pooled:
    """An agent whose wanted version has the traffic, with its pool."""
    pooled = Pooled(**promotion)
    pooled.service = traffic_to(pooled.agent, pooled.new)
    pooled.decide()
    pooled.decide(1)
    return pooled


def said(kind: str, status: str, reason: str, text: str = "") -> Object:
    """A pool's status with one condition of a gateway."""
    return {
        "parents": [
            {
                "parentRef": {"name": "public"},
                "conditions": [{"type": kind, "status": status, "reason": reason, "message": text}],
            }
        ]
    }


def test_the_pool_names_what_a_gateway_needs() -> None:
    pooled = settled()
    assert pooled.pool
    assert pooled.pool["metadata"]["name"] == "travel"
    assert pooled.pool["metadata"]["ownerReferences"][0]["kind"] == "CompiledAgent"
    assert pooled.pool["spec"] == {
        "selector": {"matchLabels": pooled.service["spec"]["selector"]},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": "picker",
            "port": {"number": 9002},
            "failureMode": "FailClose",
        },
    }


def test_the_pool_moves_with_the_service_in_one_decision() -> None:
    pooled = Pooled()
    pooled.pool = settled().pool
    assert pooled.pool
    pooled.pool["spec"]["selector"]["matchLabels"] = pooled.service["spec"]["selector"]
    moving = pooled.decide()
    assert traffic_writes(moving) == ["patch Service", "patch InferencePool"]
    assert pooled.version == name(pooled.new)
    assert {write.group for write in moving.writes if write.key.kind == "InferencePool"} == {"rollout"}, (
        "it does not move if the Service is refused"
    )
    assert traffic_writes(pooled.decide(1)) == [], "at rest, nothing is written"


def test_the_first_version_gets_its_pool_with_its_service() -> None:
    pooled = Pooled()
    first = pooled.decide(service=None, runs=(pooled.run,), deployments=(pooled.new,))
    assert traffic_writes(first) == ["create Service", "create InferencePool"]


@pytest.mark.parametrize("promotion", [{}, {"rollout": "Recreate"}])
def test_a_version_that_is_not_ready_or_failed_is_in_no_pool(promotion: Object) -> None:
    pooled = Pooled(**promotion)
    pooled.new = version(pooled.agent, pooled.run, 0)
    pooled.decide()
    assert pooled.version == name(pooled.old)
    pooled.new = version(pooled.agent, pooled.run, 0, **{FAILURE_REASON: "not ready within 900 s"})
    failed = pooled.decide(901)
    assert (pooled.version, condition(failed, "UpToDate")) == (name(pooled.old), ("False", "ServingFailed"))


def test_a_pin_takes_the_pool_back_with_the_traffic() -> None:
    pooled = settled()
    pooled.agent["spec"]["promotion"]["pin"] = pooled.older["status"]["artifacts"]["model"]
    assert traffic_writes(pooled.decide(60)) == ["patch Service", "patch InferencePool"]
    assert pooled.version == name(pooled.old)


def test_scaling_to_zero_leaves_the_pool_as_it_is() -> None:
    pooled = settled()
    pooled.agent["spec"]["serving"]["replicas"] = 0
    assert traffic_writes(pooled.decide(60)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("selector", {"matchLabels": {"app": "mine"}}),
        ("targetPorts", [{"number": 9000}]),
        ("endpointPickerRef", {"name": "mine"}),
    ],
)
def test_a_pool_that_somebody_edited_is_restored(field: str, value: Any) -> None:
    pooled = settled()
    assert pooled.pool
    before = pooled.pool["spec"]
    pooled.pool = pooled.pool | {"spec": before | {field: value}}
    assert traffic_writes(pooled.decide(60)) == ["patch InferencePool"]
    assert pooled.pool["spec"] == before


def test_labels_that_somebody_added_to_the_selector_are_removed() -> None:
    pooled = settled()
    assert pooled.pool
    labels = pooled.pool["spec"]["selector"]["matchLabels"]
    pooled.pool = pooled.pool | {"spec": pooled.pool["spec"] | {"selector": {"matchLabels": labels | {"app": "mine"}}}}
    [write] = [write for write in pooled.decide(60).writes if write.key.kind == "InferencePool"]
    assert write.object["spec"]["selector"]["matchLabels"] == {**labels, "app": None}


def test_defaults_of_a_later_api_are_left_alone() -> None:
    pooled = settled()
    assert pooled.pool
    pooled.pool = pooled.pool | {"spec": pooled.pool["spec"] | {"appProtocol": "http"}}
    assert traffic_writes(pooled.decide(60)) == []


def test_an_edited_picker_changes_the_pool_and_starts_no_pod() -> None:
    pooled = settled()
    pooled.agent["spec"]["serving"]["inferencePool"] = {
        "endpointPicker": {"name": "other", "port": 9003, "failureMode": "FailOpen"}
    }
    decision = pooled.decide(60)
    assert traffic_writes(decision) == ["patch InferencePool"]
    assert pooled.pool
    picker = pooled.pool["spec"]["endpointPickerRef"]
    assert (picker["name"], picker["port"], picker["failureMode"]) == ("other", {"number": 9003}, "FailOpen")
    assert not [write for write in decision.writes if write.key.kind == "Deployment"]


def test_agents_with_and_without_a_pool_have_the_same_version() -> None:
    run = wanted_run(make.agent())
    target = target_of(run, CompileRunStatus.model_validate(run["status"]))
    assert target
    plain, pooled = (CompiledAgentSpec.model_validate(make.agent(serving=found)["spec"]) for found in ({}, {"inferencePool": POOL}))
    assert version_of(target, plain.serving) == version_of(target, pooled.serving)


def test_an_agent_that_no_longer_asks_for_a_pool_gives_it_up() -> None:
    pooled = settled()
    del pooled.agent["spec"]["serving"]["inferencePool"]
    decision = pooled.decide(60)
    assert ([obj["kind"] for obj in decision.deletes], traffic_writes(decision)) == (["InferencePool"], [])
    assert READY not in [each["type"] for each in (decision.status or {})["conditions"]]


def test_without_the_crd_a_condition_says_so_and_nothing_else_changes() -> None:
    plain = Pooled()
    del plain.agent["spec"]["serving"]["inferencePool"]
    pooled = Pooled()
    expected, found = plain.decide(), pooled.decide(inference_pools=False)
    assert [write.digest for write in found.writes] == [write.digest for write in expected.writes]
    for kind in ("Ready", "UpToDate", "Stalled"):
        assert condition(found, kind) == condition(expected, kind)
    assert condition(found, READY) == ("False", "InferencePoolBlocked")
    assert "install the Gateway API Inference Extension" in message(found, READY)


def test_the_pool_is_made_once_the_cluster_has_them() -> None:
    pooled = Pooled()
    pooled.service = traffic_to(pooled.agent, pooled.new)
    pooled.decide(inference_pools=False)
    healed = pooled.decide(60)
    assert (traffic_writes(healed), condition(healed, READY)) == (["create InferencePool"], ("Unknown", "Pending"))
    ready = pooled.decide(61)
    assert condition(ready, READY) == ("True", "InferencePoolReady")
    assert "name it as backend of an HTTPRoute" in message(ready, READY)


def test_a_gateway_that_takes_the_pool_needs_no_hint() -> None:
    pooled = settled()
    assert pooled.pool
    pooled.pool["status"] = said("Accepted", "True", "Accepted")
    assert message(pooled.decide(60), READY) == f"InferencePool travel has the pods of version {name(pooled.new)}"


@pytest.mark.parametrize(("kind", "reason"), [("Accepted", "HTTPRouteNotAccepted"), ("ResolvedRefs", "InvalidExtensionRef")])
def test_a_gateway_that_rejects_the_pool_is_quoted(kind: str, reason: str) -> None:
    pooled = settled()
    assert pooled.pool
    pooled.pool["status"] = said(kind, "False", reason, "no such Service")
    rejected = pooled.decide(60)
    assert (condition(rejected, READY), condition(rejected, "Ready")) == (("False", "InferencePoolBlocked"), ("True", "Serving"))
    assert f"gateway public says {kind}=False ({reason}: no such Service); check that Service picker exists here" in message(
        rejected, READY
    )


def test_before_anything_serves_the_pool_is_pending() -> None:
    pooled = Pooled()
    waiting = pooled.decide(service=None, deployments=(), runs=())
    assert (condition(waiting, READY), traffic_writes(waiting)) == (("Unknown", "Pending"), [])


def test_a_name_that_is_taken_is_said_and_holds_nothing_else_up() -> None:
    pooled = Pooled()
    pooled.service = traffic_to(pooled.agent, pooled.new)
    taken = pooled.decide(refusal=Refusal(Reason.NAME_TAKEN, "InferencePool demo/travel exists and is not managed by Subterra"))
    assert (condition(taken, "UpToDate"), condition(taken, "Ready")) == (("False", "NameTaken"), ("True", "Serving"))
    pooled.pool = None
    groups = {write.group for write in pooled.decide(60).writes if write.key.kind == "InferencePool"}
    assert groups == {"inference pool"}, "other writes do not wait for it"


def test_pools_and_canaries_exclude_each_other() -> None:
    pooled = Pooled(canary={"gateway": {"name": "public"}})
    refused = pooled.decide()
    assert (condition(refused, "UpToDate"), traffic_writes(refused)) == (("False", "InvalidSpec"), [])
    assert "spec.promotion.canary and spec.serving.inferencePool exclude each other" in message(refused, "UpToDate")
