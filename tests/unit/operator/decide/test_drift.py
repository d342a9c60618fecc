"""What counts as drift of an agent's Deployment and Service, and what is written about it."""

import copy
import json
from typing import Any

from subterra_operator.decide.decision import Decision
from subterra_operator.labels import MADE, RESTORED_AT
from subterra_operator.resources import Object, key_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, recorded, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message


def serving(deployed: Object, agent: Object, later: float = 0, service: Object | None = None) -> Decision:
    """The decision about an agent that serves with this Deployment, its spec not just edited."""
    parts: dict[str, Any] = {
        "runs": (wanted_run(agent),),
        "service": service or traffic_to(agent, version(agent, wanted_run(agent))),
    }
    agent["status"] = {"observedGeneration": 1}
    return decide(agent, later, deployments=(deployed,), **parts)


def patches(decision: Decision) -> list[Object]:
    return [write.object for write in decision.writes if write.verb == "patch"]


def with_image(deployed: Object, image: str) -> Object:
    changed = copy.deepcopy(deployed)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return changed


def test_a_deployment_is_recorded_once_as_the_api_server_stored_it() -> None:
    agent = make.agent()
    made = version(agent, wanted_run(agent))
    del made["metadata"]["annotations"][MADE]
    admitted = with_image(made, "mirror.example/jobs:1")
    [written] = patches(serving(admitted, agent))
    record = json.loads(written["metadata"]["annotations"][MADE])
    assert record["template"] == admitted["spec"]["template"], "what an admission policy made of it is no drift"
    assert patches(serving(recorded(admitted), agent)) == []


def test_a_deployment_too_large_for_an_annotation_has_no_record_and_blocks_nothing() -> None:
    variables = [{"name": f"CERTIFICATE_{number}", "value": "x" * 4096} for number in range(64)]
    agent = make.agent(serving={"podTemplate": {"env": variables}})
    large, small = version(agent, wanted_run(agent)), version(make.agent(), wanted_run(make.agent()))
    assert MADE not in large["metadata"]["annotations"]
    assert MADE in small["metadata"]["annotations"]
    decision = serving(large, agent, service=traffic_to(agent, large))
    assert patches(decision) == []
    assert condition(decision, "UpToDate") == ("True", "UpToDate")


def test_a_changed_field_is_named_and_restored_while_the_agent_serves_on() -> None:
    agent = make.agent()
    made = version(agent, wanted_run(agent))
    decision = serving(with_image(made, "other:1"), agent)
    [written] = patches(decision)
    assert written["spec"]["template"]["spec"]["containers"] == made["spec"]["template"]["spec"]["containers"]
    assert written["metadata"]["annotations"] == {RESTORED_AT: make.CREATED}
    assert (condition(decision, "Ready"), condition(decision, "UpToDate")) == (("True", "Serving"), ("False", "Drifted"))
    assert "spec.template.spec.containers[vllm].image; it is being restored" in message(decision, "UpToDate")


def test_within_five_minutes_of_being_restored_an_object_is_left_and_reported() -> None:
    agent = make.agent()
    drifted = with_image(version(agent, wanted_run(agent), **{RESTORED_AT: make.CREATED}), "other:1")
    early = serving(drifted, agent, later=299)
    assert (patches(early), early.recheck_after) == ([], 1)
    assert "something else insists" in message(early, "UpToDate")
    assert len(patches(serving(drifted, agent, later=300))) == 1


def test_whoever_scales_the_deployment_again_and_again_is_reported_and_not_fought() -> None:
    agent = make.agent(serving={"replicas": 2})
    made = version(agent, wanted_run(agent), ready=2)
    scaled = {**made, "spec": {**made["spec"], "replicas": 5}}
    [written] = patches(serving(scaled, agent))
    assert written["spec"]["replicas"] == 2
    assert written["metadata"]["annotations"] == {RESTORED_AT: make.CREATED}
    scaled["metadata"] = {**made["metadata"], "annotations": {**made["metadata"]["annotations"], RESTORED_AT: make.CREATED}}
    insisted = serving(scaled, agent, later=20)
    assert (patches(insisted), insisted.recheck_after) == ([], 280)
    assert (condition(insisted, "Ready"), condition(insisted, "UpToDate")) == (("True", "Serving"), ("False", "Drifted"))
    assert "spec.replicas; it was restored less than 5 minutes ago" in message(insisted, "UpToDate")


def test_an_edit_of_the_replicas_is_no_drift_and_does_not_wait_for_a_version_that_is_refused() -> None:
    before, agent = make.agent(), make.agent(serving={"replicas": 3, "args": ["--seed=1"]})
    run, deployed = wanted_run(agent), version(before, wanted_run(before), **{RESTORED_AT: make.CREATED})
    decision = decide(agent, runs=(run,), deployments=(deployed,), service=traffic_to(before, deployed))
    groups = {write.key: write.group for write in decision.writes if write.key.kind == "Deployment"}
    [scaling] = [write for write in decision.writes if write.key == key_of(deployed)]
    assert scaling.object["spec"] == {"replicas": 3}
    assert len(groups) == len(set(groups.values())) == 2, "of one group, a refused Deployment would hold up the scaling"


def test_after_a_restored_template_the_agent_is_drifted_until_the_changed_pods_are_gone() -> None:
    agent = make.agent()
    rolling = version(agent, wanted_run(agent), **{RESTORED_AT: make.CREATED})
    rolling["status"]["replicas"] = 2
    decision = serving(rolling, agent, later=10)
    assert (patches(decision), condition(decision, "UpToDate")) == ([], ("False", "Drifted"))
    rolling["status"]["replicas"] = 1
    assert condition(serving(rolling, agent, later=20), "UpToDate") == ("True", "UpToDate")


def test_a_deployment_with_a_foreign_selector_is_reported_with_what_to_do() -> None:
    agent = make.agent()
    foreign = copy.deepcopy(version(agent, wanted_run(agent)))
    foreign["spec"]["selector"]["matchLabels"] = {"app": "other"}
    decision = serving(foreign, agent)
    assert condition(decision, "UpToDate") == ("False", "Drifted")
    assert "delete it, and it is made again" in message(decision, "UpToDate")
    assert patches(decision) == []


def test_a_port_that_the_author_edits_is_no_drift() -> None:
    agent = make.agent(serving={"port": 80})
    deployed = version(agent, wanted_run(agent))
    agent["metadata"]["generation"] = 2
    decision = serving(deployed, agent)
    [written] = patches(decision)
    assert (written["kind"], written["spec"]["ports"][0]["port"]) == ("Service", 80)
    assert condition(decision, "UpToDate") == ("True", "UpToDate")


def test_without_replicas_no_version_is_started_and_none_gets_traffic() -> None:
    agent = make.agent(serving={"replicas": 0})
    decision = decide(agent, runs=(wanted_run(agent),))
    assert [write.key.kind for write in decision.writes] == ["CompileRun"]
    assert decision.status
    assert (condition(decision, "Stalled"), decision.status["phase"]) == (("True", "ScaledToZero"), "ScaledToZero")
    assert "set it to 1 or more to start it" in message(decision, "Ready")


def test_what_served_gets_its_service_back_even_without_replicas() -> None:
    agent = make.agent(serving={"replicas": 0})
    deployed = version(agent, wanted_run(agent), ready=0)
    name = deployed["metadata"]["labels"]["subterra.dev/version"]
    agent["status"] = {"serving": {"version": name, "modelDigest": "d", "modelPath": "p"}}
    decision = decide(agent, runs=(wanted_run(agent),), deployments=(deployed,))
    assert "Service" in [write.key.kind for write in decision.writes]


def test_a_version_that_starts_is_stopped_when_the_agent_is_scaled_to_zero() -> None:
    agent = make.agent(serving={"replicas": 0})
    starting = version(agent, wanted_run(agent), ready=0)
    starting["spec"]["replicas"] = 1
    decision = decide(agent, runs=(wanted_run(agent),), deployments=(starting,))
    assert [item["spec"] for item in patches(decision)] == [{"replicas": 0}]
