"""`serving.restartAt` starts the same model again in new pods, with what this operator makes, and interrupts nothing."""

from typing import Any

from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus, ServingSettings
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.events.agent_events import agent_events
from subterra_operator.labels import RESTART_AT
from subterra_operator.resources import Object
from subterra_operator.specs.deployment import ServingTarget, version_of
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message

NOON = "2026-11-29T12:00:00Z"


def deployments(decision: Decision) -> list[Object]:
    return [write.object for write in decision.writes if write.key.kind == "Deployment" and write.verb == "create"]


def restarted(verdict: str = "Pass", *made: Object, to: Object | None = None, **parts: Any) -> Decision:
    """An agent whose version of yesterday serves, and that should restart at noon; ``made`` exist too."""
    agent = make.agent(serving={"restartAt": NOON})
    old = version(make.agent(), wanted_run(make.agent()))
    run = wanted_run(agent, verdict)
    return decide(agent, runs=(run,), deployments=(old, *made), service=traffic_to(agent, to or old), **parts)


def new_version(ready: int = 1) -> Object:
    agent = make.agent(serving={"restartAt": NOON})
    return version(agent, wanted_run(agent), ready)


def test_the_same_model_is_started_next_to_what_serves_and_the_status_says_why() -> None:
    decision = restarted()
    [made] = deployments(decision)
    assert made["metadata"]["annotations"][RESTART_AT] == NOON
    assert made["metadata"]["name"] == new_version()["metadata"]["name"]
    assert condition(decision, "Ready") == ("True", "Serving")
    assert condition(decision, "UpToDate") == ("False", "Starting")
    assert f"starts the same model again, because spec.serving.restartAt is {NOON}" in message(decision, "UpToDate")


def test_traffic_moves_once_the_new_pods_are_ready_and_then_it_is_done() -> None:
    moving = restarted("Pass", new_version())
    assert [write.key.kind for write in moving.writes if write.verb == "patch" and write.guard] == ["Service"]
    done = restarted("Pass", new_version(), to=new_version())
    assert condition(done, "UpToDate") == ("True", "UpToDate")
    assert done.status and done.status["serving"]["restartAt"] == NOON
    assert not deployments(done)


def test_what_serves_is_restarted_although_the_newest_candidate_was_rejected() -> None:
    [made] = deployments(restarted("Fail"))
    assert made["metadata"]["annotations"][RESTART_AT] == NOON
    done = restarted("Fail", new_version(), to=new_version())
    assert condition(done, "UpToDate") == ("False", "GateFailed")
    assert not deployments(done), "once is enough"


def test_the_event_of_the_move_says_that_it_is_a_restart() -> None:
    moved, before = restarted("Pass", new_version(), to=new_version()).status, decide_before()
    assert moved
    events = agent_events(CompiledAgentStatus.model_validate(before), CompiledAgentStatus.model_validate(moved))
    [text] = [event.note for event in events if event.reason == "TrafficMoved"]
    assert text.endswith(f"restarted because spec.serving.restartAt is {NOON}")


def decide_before() -> Object:
    """The status before the restart was asked for."""
    agent = make.agent()
    run = wanted_run(agent)
    old = version(agent, run)
    status = decide(agent, runs=(run,), deployments=(old,), service=traffic_to(agent, old)).status
    assert status
    return status


def test_without_it_every_version_is_as_before_and_each_value_is_another() -> None:
    target = ServingTarget(Model("models/1", "travel"), "sha256:" + "a" * 64)
    settings = ({}, {"restartAt": None}, {"restartAt": NOON}, {"restartAt": "again"})
    versions = [version_of(target, ServingSettings.model_validate(each)) for each in settings]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
