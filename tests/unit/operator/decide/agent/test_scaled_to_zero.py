"""An agent without replicas: somebody wanted it so, and the status says it."""

from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus
from subterra_operator.decide.events.agent_events import agent_events
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, traffic_to, version, wanted_run


def status(replicas: int, ready: int, before: Object | None = None) -> Object:
    """The status of an agent whose version has so many replicas, of which so many are ready."""
    agent = make.agent(serving={"replicas": replicas})
    if before:
        agent["status"] = before
    run = wanted_run(agent)
    deployed = version(agent, run, ready)
    decision = decide(agent, runs=(run,), deployments=(deployed,), service=traffic_to(agent, deployed))
    assert decision.status
    return decision.status


def conditions(of: Object) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in of["conditions"]}


def events(old: Object, new: Object) -> list[tuple[str, str]]:
    found = agent_events(CompiledAgentStatus.model_validate(old), CompiledAgentStatus.model_validate(new))
    return [(event.type, event.reason) for event in found]


def test_an_agent_that_is_scaled_to_zero_says_so_and_has_not_failed() -> None:
    found = status(0, 0)
    assert (found["phase"], found["reason"], found["stage"]) == ("ScaledToZero", "ScaledToZero", "scaled to zero")
    assert conditions(found)["Ready"] == ("True", "ScaledToZero"), "as a Deployment without replicas is ready, for GitOps"
    assert conditions(found)["Stalled"][0] == "False"
    assert "it serves again once spec.serving.replicas is 1 or more" in found["conditions"][0]["message"]
    assert found["selector"], "an autoscaler finds the pods that it brings back"


def test_the_way_to_zero_and_back_is_told_without_a_warning() -> None:
    up = status(1, 1)
    down = status(0, 0, up)
    waking = status(1, 0, down)
    again = status(1, 1, waking)
    assert [status["phase"] for status in (up, down, waking, again)] == ["Serving", "ScaledToZero", "Unavailable", "Serving"]
    assert events(up, down) == [("Normal", "ScaledToZero")]
    assert events(down, waking) == [("Normal", "NotServing")]
    assert events(waking, again) == [("Normal", "Serving")]
    assert events(up, waking) == [("Warning", "NotServing")], "pods that are lost are another matter"
