"""The objects around an agent's Service: policies of those who name their callers, and a budget for drains."""

from subterra_operator.decide.decision import Decision
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, other_run, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition

CALLED = {"allowedNamespaces": ["shop"]}


def served(serving: Object, ready: int = 1) -> Decision:
    """A decision about an agent whose version has its traffic."""
    agent = make.agent(serving=serving)
    run = wanted_run(agent)
    deployed = version(agent, run, ready)
    return decide(agent, runs=(run,), deployments=(deployed,), service=traffic_to(agent, deployed))


def written(decision: Decision, kind: str) -> dict[str, Object]:
    return {write.key.name: write.object for write in decision.writes if write.key.kind == kind}


def test_the_policy_of_callers_is_written_before_the_first_pod_and_kept() -> None:
    agent = make.agent(serving=CALLED)
    names = [write.key.name for write in decide(agent, runs=(wanted_run(agent),)).writes]
    [pod] = [name for name in names if name.startswith("travel-") and name != "travel-callers" and name in names[-1:]]
    assert names.index("travel-callers") < names.index(pod)
    assert "travel-callers" in written(served(CALLED), "NetworkPolicy")
    assert "travel-callers" not in written(served({}), "NetworkPolicy")


def test_two_replicas_get_a_budget_and_one_does_not() -> None:
    [budget] = written(served({"replicas": 2}, ready=2), "PodDisruptionBudget").values()
    assert (budget["metadata"]["name"], budget["spec"]["maxUnavailable"]) == ("travel", 1)
    assert written(served({}), "PodDisruptionBudget") == {}


def test_the_budget_follows_the_traffic_so_a_version_that_starts_holds_up_no_drain() -> None:
    agent = make.agent(serving={"replicas": 2})
    run, older = wanted_run(agent), other_run(agent)
    old, new = version(agent, older, 2), version(agent, run, 0)
    decision = decide(agent, runs=(run, older), deployments=(old, new), service=traffic_to(agent, old))
    [budget] = written(decision, "PodDisruptionBudget").values()
    assert budget["spec"]["selector"]["matchLabels"]["subterra.dev/version"] == old["metadata"]["labels"]["subterra.dev/version"]
    assert condition(decision, "UpToDate") == ("False", "Starting")
