"""An agent, decided: what is served, and how it reads."""

from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.messages import PodPrice
from subterra_api.v1alpha1.compiledagent import ServingSettings
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_operator.decide.agent.candidate import target_of
from subterra_operator.decide.decision import Decision
from subterra_operator.labels import FAILURE_REASON
from subterra_operator.resources import Object
from subterra_operator.specs.deployment import version_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import (
    MODEL,
    decide,
    kinds,
    other_run,
    traffic_to,
    version,
    wanted_run,
)
from subterra_testkit.cluster.decided_conditions import condition, message


def test_a_new_agent_creates_its_run() -> None:
    decision = decide(make.agent())
    assert kinds(decision) == ["apply CompileRun"]
    assert condition(decision, "Ready") == ("False", "Compiling")
    assert condition(decision, "Reconciling")[0] == "True"


def test_an_agent_waits_until_the_procedure_has_been_checked() -> None:
    procedure = make.procedure()
    procedure["metadata"]["generation"] = 2
    assert decide(make.agent(), procedure=procedure).writes == ()


def test_a_pinned_agent_waits_for_the_check_of_an_edit_and_an_urgent_pin_does_not() -> None:
    agent = make.agent(promotion={"pin": MODEL})
    run = wanted_run(agent)
    deployed = version(agent, run)
    parts: dict[str, Any] = {"runs": (run,), "deployments": (deployed,), "service": traffic_to(agent, deployed)}
    agent["status"] = decide(agent, **parts).status
    unchecked = make.procedure()
    unchecked["metadata"]["generation"] = 2
    assert decide(agent, procedure=unchecked, **parts) == Decision(), "UpToDate does not become False for a moment"
    agent["status"]["serving"]["modelDigest"] = "sha256:" + "b" * 64
    assert condition(decide(agent, procedure=unchecked, **parts), "UpToDate") == ("False", "Pinned")


def settled(agent: Object, later: float, **parts: Any) -> Decision:
    """A decision later on, with the status that the one before left."""
    agent["status"] = decide(agent, **parts).status
    return decide(agent, later=later, **parts)


def test_settling_waits_and_looks_again() -> None:
    agent = make.agent(compile={"procedureRef": {"name": "travel"}, "settleSeconds": 60})
    decision = settled(agent, 10)
    assert (decision.writes, decision.recheck_after) == ((), 50)
    assert condition(decision, "Reconciling")[0] == "True"
    assert kinds(settled(agent, 60)) == ["apply CompileRun"]


def test_a_later_edit_of_the_agents_settings_settles_anew() -> None:
    source = {"procedureRef": {"name": "travel"}, "settleSeconds": 60}
    agent = make.agent(compile=source)
    agent["status"] = decide(agent).status
    agent["spec"] = {"compile": {**source, "template": {"training": {"epochs": 3}}}}
    agent["status"] = decide(agent, later=50).status
    assert decide(agent, later=100).writes == ()
    assert kinds(decide(agent, later=110)) == ["apply CompileRun"]


def test_a_manual_trigger_waits_for_a_person() -> None:
    source = {"procedureRef": {"name": "travel"}, "trigger": "Manual"}
    assert condition(decide(make.agent(compile=source)), "UpToDate") == ("False", "AwaitingTrigger")
    asked = make.agent(annotations={"subterra.dev/retry-at": "now"}, compile=source)
    assert kinds(decide(asked)) == ["apply CompileRun"]


def test_a_run_that_a_person_asked_for_begins_once_edits_have_settled() -> None:
    source = {"procedureRef": {"name": "travel"}, "trigger": "Manual", "settleSeconds": 60}
    agent = make.agent(annotations={"subterra.dev/retry-at": "now"}, compile=source)
    waiting = settled(agent, 10)
    assert (waiting.writes, waiting.recheck_after) == ((), 50)
    begun = settled(agent, 60)
    assert kinds(begun) == ["apply CompileRun"]
    assert begun.status is not None
    assert begun.status["retryAt"] == "now"
    agent["status"] = waiting.status
    agent["metadata"]["annotations"] = {}
    assert condition(decide(agent, later=60), "UpToDate") == ("False", "AwaitingTrigger"), "the request was withdrawn"


def test_an_older_run_at_work_is_suspended() -> None:
    agent = make.agent()
    older = wanted_run(agent, None)
    older["metadata"]["name"] = "travel-older"
    patches = [write.object for write in decide(agent, runs=(older,)).writes if write.verb == "patch"]
    assert [item["spec"] for item in patches] == [{"execution": {"suspend": True}}]


def test_a_run_that_is_wanted_again_is_resumed() -> None:
    agent = make.agent()
    run = wanted_run(agent, None)
    run["spec"]["execution"]["suspend"] = True
    run["metadata"]["annotations"] = {"subterra.dev/superseded-by": "travel-other"}
    [patch] = [write.object for write in decide(agent, runs=(run,)).writes if write.verb == "patch"]
    assert patch["spec"] == {"execution": {"suspend": False}}
    assert patch["metadata"]["annotations"] == {"subterra.dev/superseded-by": None}


def test_a_passed_candidate_is_started_before_traffic_moves() -> None:
    agent = make.agent()
    decision = decide(agent, runs=(wanted_run(agent),))
    assert kinds(decision) == ["apply CompileRun", "create PersistentVolumeClaim", "create Deployment"]
    assert condition(decision, "UpToDate") == ("False", "Starting")


def test_traffic_moves_when_all_replicas_are_ready() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    waiting = decide(agent, runs=(run,), deployments=(version(agent, run, ready=0),))
    assert "create Service" not in kinds(waiting)
    moving = decide(agent, runs=(run,), deployments=(version(agent, run),))
    [write] = [write for write in moving.writes if write.key.kind == "Service"]
    assert write.guard, "the Deployment is looked at again just before"


def test_traffic_moves_from_the_old_version_with_a_fence() -> None:
    agent = make.agent()
    run, older = wanted_run(agent), other_run(agent)
    old, new = version(agent, older), version(agent, run)
    decision = decide(agent, runs=(run, older), deployments=(old, new), service=traffic_to(agent, old))
    [write] = [write for write in decision.writes if write.key.kind == "Service"]
    assert write.verb == "patch"
    assert write.object["metadata"]["resourceVersion"] == "7"
    assert write.object["spec"]["selector"]["subterra.dev/version"] == new["metadata"]["labels"]["subterra.dev/version"]


def test_an_agent_that_serves_what_was_compiled_is_up_to_date() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    deployed = version(agent, run)
    decision = decide(agent, runs=(run,), deployments=(deployed,), service=traffic_to(agent, deployed))
    assert condition(decision, "Ready") == ("True", "Serving")
    assert condition(decision, "UpToDate") == ("True", "UpToDate")
    assert kinds(decision) == ["apply CompileRun"]


def serving_older(verdict: str | None = "Pass", later: float = 0, **spec: Any) -> Decision:
    """An agent that serves an older run's model, with a newer run."""
    agent = make.agent(**spec)
    run, older = wanted_run(agent, verdict), other_run(agent)
    old = version(agent, older)
    return decide(agent, later, runs=(run, older), deployments=(old,), service=traffic_to(agent, old))


def test_while_something_serves_a_refused_candidate_is_neither_reconciling_nor_stalled() -> None:
    for verdict, reason in (("Fail", "GateFailed"), ("Inconclusive", "GateInconclusive")):
        decision = serving_older(verdict)
        assert condition(decision, "Ready") == ("True", "Serving")
        assert condition(decision, "UpToDate") == ("False", reason)
        assert (condition(decision, "Reconciling")[0], condition(decision, "Stalled")[0]) == ("False", "False")
        assert not [kind for kind in kinds(decision) if kind != "apply CompileRun"]


def test_a_run_whose_deletion_waits_for_somebody_is_not_called_in_progress() -> None:
    agent = make.agent()
    run = wanted_run(agent, None)
    run["metadata"]["deletionTimestamp"] = make.CREATED
    assert "is being deleted and begins again once it is gone" in message(decide(agent, runs=(run,)), "UpToDate")


def test_while_something_serves_recompiling_is_not_reconciling() -> None:
    decision = serving_older(None)
    assert condition(decision, "UpToDate") == ("False", "Compiling")
    assert (condition(decision, "Reconciling")[0], condition(decision, "Stalled")[0]) == ("False", "False")


def test_a_deleted_procedure_leaves_the_service_alone() -> None:
    agent = make.agent()
    older = other_run(agent)
    old = version(agent, older)
    decision = decide(agent, procedure=None, runs=(older,), deployments=(old,), service=traffic_to(agent, old))
    assert {write.key.kind for write in decision.writes} == {"NetworkPolicy"}
    assert (condition(decision, "Ready")[0], condition(decision, "UpToDate")) == ("True", ("Unknown", "ProcedureNotFound"))


def test_manual_mode_asks_for_the_pin_that_approves() -> None:
    decision = serving_older("Pass", promotion={"mode": "Manual"})
    assert condition(decision, "UpToDate") == ("False", "AwaitingApproval")
    assert MODEL in message(decision, "UpToDate")
    approved = serving_older("Pass", promotion={"mode": "Manual", "pin": MODEL})
    assert "create Deployment" in kinds(approved)


def test_a_pin_holds_the_older_model_whatever_is_newer() -> None:
    decision = serving_older("Pass", promotion={"pin": "sha256:" + "b" * 64})
    assert condition(decision, "UpToDate") == ("False", "Pinned")
    assert "create Deployment" not in kinds(decision)


def test_a_verdict_of_yesterdays_policy_is_not_followed() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    stricter = make.agent(promotion={"gate": {"minScore": 4.9}})
    assert "create Deployment" not in kinds(decide(stricter, runs=(run,)))


def test_a_candidate_that_never_gets_ready_is_given_up() -> None:
    agent = make.agent()
    run, older = wanted_run(agent), other_run(agent)
    old, new = version(agent, older), version(agent, run, ready=0)
    parts: Mapping[str, Any] = {"runs": (run, older), "deployments": (old, new), "service": traffic_to(agent, old)}
    assert decide(agent, later=899, **parts).recheck_after == 1
    decision = decide(agent, later=900, **parts)
    [patch] = [write.object for write in decision.writes if write.verb == "patch"]
    assert (patch["metadata"]["name"], patch["spec"]) == (new["metadata"]["name"], {"replicas": 0})
    assert condition(decision, "UpToDate") == ("False", "ServingFailed")
    assert condition(decision, "Ready") == ("True", "Serving")


def test_a_version_that_was_given_up_is_started_again_only_when_asked() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    failed = version(agent, run, ready=0, **{FAILURE_REASON: "out of memory"})
    failed["spec"]["replicas"] = 0
    decision = decide(agent, runs=(run,), deployments=(failed,))
    assert kinds(decision) == ["apply CompileRun"]
    assert "out of memory" in message(decision, "UpToDate")
    asked = make.agent(annotations={"subterra.dev/retry-at": "now"})
    again = [write.object for write in decide(asked, runs=(run,), deployments=(failed,)).writes if write.key.kind == "Deployment"]
    assert [item["spec"] for item in again] == [{"replicas": 1}]


def test_the_old_version_stays_warm_then_stops_then_goes() -> None:
    agent = make.agent()
    run, older = wanted_run(agent), other_run(agent)
    old, new = version(agent, older), version(agent, run)
    parts: dict[str, Any] = {"runs": (run, older), "deployments": (old, new), "service": traffic_to(agent, new)}
    warm = decide(agent, later=299, **parts)
    assert (kinds(warm), warm.recheck_after) == (["apply CompileRun"], 1)
    [stop] = [write.object for write in decide(agent, later=300, **parts).writes if write.verb == "patch"]
    assert (stop["metadata"]["name"], stop["spec"]) == (old["metadata"]["name"], {"replicas": 0})
    old["spec"]["replicas"] = 0
    assert decide(agent, later=899, **parts).deletes == ()
    assert [item["metadata"]["name"] for item in decide(agent, later=900, **parts).deletes] == [old["metadata"]["name"]]


def test_keep_warm_is_the_authors_choice() -> None:
    agent = make.agent(promotion={"keepWarmSeconds": 0})
    run, older = wanted_run(agent), other_run(agent)
    old, new = version(agent, older), version(agent, run)
    decision = decide(agent, runs=(run, older), deployments=(old, new), service=traffic_to(agent, new))
    assert [write.object["spec"] for write in decision.writes if write.verb == "patch"] == [{"replicas": 0}]


def aged_runs(agent: Object, count: int) -> tuple[Object, ...]:
    """Finished runs of inputs long ago, the oldest first."""
    found = []
    for number in range(count):
        run = other_run(agent)
        stamp = f"2026-10-{number + 1:02}T12:00:00Z"
        run["metadata"] = run["metadata"] | {"name": f"travel-old{number}", "uid": f"old{number}", "creationTimestamp": stamp}
        run["status"]["artifacts"]["model"] = f"sha256:{number:064}"
        found.append(run)
    return tuple(found)


def deleted(decision: Decision) -> list[str]:
    return [obj["metadata"]["name"] for obj in decision.deletes]


def test_runs_beyond_the_history_limit_are_deleted_oldest_first() -> None:
    agent = make.agent(promotion={"historyLimit": 2})
    old = aged_runs(agent, 4)
    assert deleted(decide(agent, runs=(wanted_run(agent), *old))) == ["travel-old1", "travel-old0"]
    assert deleted(decide(agent, runs=old)) == [], "which run is wanted shows only once it exists"


def test_a_run_that_is_pinned_warm_or_remembered_is_never_deleted() -> None:
    agent = make.agent(promotion={"historyLimit": 1, "pin": f"sha256:{0:064}"})
    pinned, warm, remembered, other, newest = aged_runs(agent, 5)
    item = {"version": "1", "modelDigest": "sha256:1", "modelPath": "models/1", "run": remembered["metadata"]["name"]}
    agent["status"] = {"history": [item]}
    runs = (wanted_run(agent), pinned, warm, remembered, other, newest)
    assert deleted(decide(agent, runs=runs, deployments=(version(agent, warm),))) == [other["metadata"]["name"]]


def test_what_serves_comes_back_when_somebody_deletes_it_while_something_newer_is_refused() -> None:
    agent = make.agent()
    run, older = wanted_run(agent, "Fail"), other_run(agent)
    old = version(agent, older)
    parts: dict[str, Any] = {"runs": (run, older), "service": traffic_to(agent, old)}
    agent["status"] = decide(agent, deployments=(old,), **parts).status
    assert "create Deployment" in kinds(decide(agent, **parts))
    assert "create Service" in kinds(decide(agent, runs=(run, older), deployments=(old,)))


def test_a_suspended_agent_stops_whatever_is_at_work() -> None:
    agent = make.agent(compile={"procedureRef": {"name": "travel"}, "suspend": True})
    older = wanted_run(agent, None)
    older["metadata"]["name"] = "travel-older"
    for procedure in (make.procedure(), None):
        patches = [write.object for write in decide(agent, runs=(older,), procedure=procedure).writes if write.verb == "patch"]
        assert [item["spec"] for item in patches] == [{"execution": {"suspend": True}}]


def test_an_agent_that_is_given_a_finished_model_stops_its_runs() -> None:
    agent = make.agent()
    run = wanted_run(agent, None)
    agent["spec"] = {"model": {"uri": "pvc://models/abc", "digest": MODEL}}
    [patch] = [write.object for write in decide(agent, runs=(run,)).writes if write.verb == "patch"]
    assert patch["metadata"]["annotations"] == {"subterra.dev/superseded-by": "spec.model"}


def test_a_procedure_may_come_a_moment_after_the_agent() -> None:
    early = decide(make.agent(), later=10, procedure=None)
    assert (condition(early, "Reconciling")[0], condition(early, "Stalled")[0], early.recheck_after) == ("True", "False", 50)
    assert condition(decide(make.agent(), later=60, procedure=None), "Stalled") == ("True", "ProcedureNotFound")


def test_a_pinned_agent_tells_of_what_is_newer() -> None:
    decision = serving_older("Fail", promotion={"pin": "sha256:" + "b" * 64})
    assert "remove spec.promotion.pin to follow the procedure, where run" in message(decision, "UpToDate")
    assert "is not promoted: because" in message(decision, "UpToDate")


def test_a_status_of_another_version_of_the_operator_can_be_read() -> None:
    agent = make.agent(
        status={"phase": "Serving", "mood": "good", "serving": {"version": "1", "modelDigest": "d", "modelPath": "p", "x": 1}}
    )
    assert decide(agent).status


def test_a_refused_argument_is_named_with_the_allowed_ones() -> None:
    decision = decide(make.agent(serving={"args": ["--trust-remote-code"]}))
    assert condition(decision, "Stalled") == ("True", "InvalidSpec")
    assert "--trust-remote-code is not allowed" in message(decision, "Stalled")
    assert "--max-num-seqs" in message(decision, "Stalled")


def test_replicas_and_cost_make_no_new_version() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    target = target_of(run, CompileRunStatus.model_validate(run["status"]))
    assert target
    versions = {version_of(target, ServingSettings.model_validate(serving)) for serving in ({}, {"replicas": 5}, {"port": 80})}
    assert len(versions) == 1
    more = ServingSettings.model_validate({"args": ["--max-num-seqs=8"]})
    assert version_of(target, more) not in versions


def test_a_finished_model_is_served_after_its_bytes_are_checked() -> None:
    agent = make.agent()
    agent["spec"] = {"model": {"uri": "pvc://models/abc", "digest": MODEL}}
    [write] = [write for write in decide(agent, procedure=None).writes if write.key.kind == "Deployment"]
    verify, exporter = write.object["spec"]["template"]["spec"]["initContainers"]
    assert verify["command"][-2:] == ["models/abc", MODEL]
    assert exporter["restartPolicy"] == "Always"


def test_the_price_follows_todays_hourly_price() -> None:
    agent = make.agent(cost={"usdPerHour": "5.00"})
    run = wanted_run(agent)
    deployed = version(agent, run)
    prices = (
        PodPrice(usd_per_conversation="0.001", conversations=30, usd_per_hour="2.50"),
        PodPrice(usd_per_conversation="0.003", conversations=10, usd_per_hour="2.50"),
    )
    decision = decide(agent, runs=(run,), deployments=(deployed,), service=traffic_to(agent, deployed), prices=prices)
    assert decision.status
    assert decision.status["price"]["usdPerConversation"] == "0.003"
    assert decision.status["price"]["conversations"] == 40


def test_new_prices_alone_write_no_status_but_a_lost_pod_does_at_once_and_keeps_the_price() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    parts: dict[str, Any] = {"runs": (run,), "service": traffic_to(agent, version(agent, run))}
    price = PodPrice(usd_per_conversation="0.001", usd_per_conversation_with_idle="0.1", conversations=3, usd_per_hour="2.50")
    busier = price.model_copy(update={"conversations": 4, "usd_per_conversation_with_idle": "0.2"})
    first = decide(agent, deployments=(version(agent, run),), prices=(price,), **parts)
    agent["status"] = first.status
    second = decide(agent, 30, deployments=(version(agent, run),), prices=(busier,), **parts)
    assert second.status == first.status
    assert second.recheck_after == 3600 - 30
    lost = decide(agent, 60, deployments=(version(agent, run, ready=0),), prices=(busier,), **parts)
    assert condition(lost, "Ready") == ("False", "NotServing")
    assert lost.status and first.status
    assert lost.status["price"] == first.status["price"]
