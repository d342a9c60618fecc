"""Agents `travel` and `travel-canary` in one namespace: both want the Service `travel-canary`."""

import copy

from tests.unit.operator.decide.rollouts.test_canary import ALL_OLD, ENOUGH, Traffic, moved, step

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.refusal import name_taken
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import key_of
from subterra_operator.snapshot import Refusal
from subterra_operator.specs.traffic.http_route import canary_service
from subterra_operator.specs.traffic.service import service
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message

OTHER = make.resource("CompiledAgent", "travel-canary", make.agent()["spec"], uid="other")

ROUTED = ("Service", "HTTPRoute")


def verbs(decision: Decision) -> list[str]:
    return [f"{write.verb} {write.key.kind} {write.key.name}" for write in decision.writes if write.key.kind in ROUTED]


def with_share() -> Traffic:
    """The agent `travel`, whose canary has a share of the traffic."""
    traffic = Traffic()
    traffic.decide()
    assert traffic.weights == {"travel": 90, "travel-canary": 10}
    return traffic


def test_a_canary_whose_service_is_another_agents_says_which_and_what_to_do() -> None:
    refused = name_taken(make.stored(service(OTHER, 8000, "deadbeef", make.NOW)))
    assert refused.reason is Reason.NAME_TAKEN
    fixes = "delete CompiledAgent travel-canary and create it under another name, or remove spec.promotion.canary from this agent"
    named = "Service demo/travel-canary is that of CompiledAgent travel-canary, and this agent's canary needs the name"
    assert refused.message == f"{named}; {fixes}; retried automatically"
    traffic = Traffic()
    blocked = traffic.decide(canary_service=None, refusal=refused)
    assert (condition(blocked, "UpToDate"), condition(blocked, "Ready")) == (("False", "NameTaken"), ("True", "Serving"))
    assert (step(blocked), message(blocked, "UpToDate")) == (None, refused.message)


def test_an_agent_whose_service_is_anothers_canary_says_which_and_what_to_do() -> None:
    refused = name_taken(make.stored(canary_service(make.agent(), 8000, "deadbeef")))
    fixes = "delete this agent and create it under another name, or remove spec.promotion.canary from CompiledAgent travel"
    command = "kubectl -n demo delete service travel-canary"
    named = "Service demo/travel-canary is the canary's of CompiledAgent travel"
    assert refused.message == f"{named}; {fixes}, then run {command}; retried automatically"
    run = wanted_run(OTHER)
    blocked = decide(OTHER, runs=(run,), deployments=(version(OTHER, run),), refusal=refused)
    assert condition(blocked, "Stalled") == ("True", "NameTaken")


def test_what_was_left_behind_and_what_is_anothers_is_not_called_unmanaged() -> None:
    theirs = make.stored(service(OTHER, 8000, "deadbeef", make.NOW))
    orphan = copy.deepcopy(theirs)
    orphan["metadata"]["ownerReferences"] = []
    assert "has no owner, as after kubectl delete --cascade=orphan" in name_taken(orphan).message
    config_map = make.frozen(make.run())
    assert "belongs to CompileRun travel-12345678; delete that one" in name_taken(config_map).message
    unmanaged = {**theirs, "metadata": {**theirs["metadata"], "labels": {}}}
    assert "exists and is not managed by Subterra" in name_taken(unmanaged).message


def test_a_share_whose_service_is_gone_ends_before_another_service_is_made_and_then_goes_on() -> None:
    """Between the two, somebody may delete the Service and the other agent take its name."""
    traffic = with_share()
    lost = traffic.decide(60, ENOUGH, canary_service=None)
    assert verbs(lost) == ["patch HTTPRoute travel", "create Service travel-canary"]
    assert (traffic.weights, step(lost)) == (ALL_OLD, 1)
    again = traffic.decide(61, ENOUGH)
    assert (traffic.weights, step(again), moved(again)) == ({"travel": 90, "travel-canary": 10}, 1, False)


def test_not_even_an_agent_with_an_invalid_spec_goes_on_sending_requests_to_what_is_not_its_own() -> None:
    traffic = with_share()
    traffic.agent["spec"]["serving"] = {"args": ["--host=0.0.0.0"]}
    invalid = traffic.decide(60, canary_service=None)
    assert (condition(invalid, "UpToDate"), traffic.weights) == (("False", "InvalidSpec"), ALL_OLD)
    assert traffic.decide(61).writes == ()


def test_an_agent_does_not_take_the_name_of_a_service_to_which_anothers_route_still_sends_requests() -> None:
    cache, traffic = ObjectCache(), with_share()
    run = wanted_run(OTHER)
    deployed = version(OTHER, run)
    for obj in (OTHER, run, deployed, make.procedure(), traffic.parts["route"]):
        cache.upsert(obj)
    found = cache.agent_snapshot(key_of(OTHER))
    assert found and found.other_route and found.other_route["metadata"]["name"] == "travel"
    held = decide(OTHER, runs=(run,), deployments=(deployed,), other_route=found.other_route)
    assert not [write for write in held.writes if write.key.kind == "Service"]
    assert "waits until HTTPRoute demo/travel sends no more requests" in message(held, "UpToDate")
    assert held.recheck_after == 5
    free = decide(OTHER, runs=(run,), deployments=(deployed,))
    assert "create Service travel-canary" in verbs(free)


def test_a_refusal_does_not_end_a_share_that_has_its_service() -> None:
    traffic = with_share()
    refused = traffic.decide(60, ENOUGH, refusal=Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota"))
    assert (step(refused), traffic.weights) == (1, {"travel": 90, "travel-canary": 10})
