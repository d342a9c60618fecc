"""Metrics of resources say what is true now: what a resource no longer has is gone."""

import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from prometheus_client import generate_latest

from subterra_api.job_contract.messages import PodPrice, Progress, ServedWork
from subterra_api.v1alpha1.scores import Verdict
from subterra_core.serving_costs.conversation_costs import Compared, ConversationCosts
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, VERSION_LABEL
from subterra_operator.monitoring import agent_metrics, metrics, run_metrics
from subterra_operator.monitoring.series import REGISTRY
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.kubernetes_objects import NAMESPACE, NOW

RUN, AGENT = Key("CompileRun", NAMESPACE, "travel-1"), Key("CompiledAgent", NAMESPACE, "travel")


@pytest.fixture(autouse=True)
def nothing_reported() -> Iterator[None]:
    metrics.remove_all()
    yield
    metrics.remove_all()


def series(text: str = "") -> list[str]:
    """Exported samples about resources that contain `text`."""
    lines = generate_latest(REGISTRY).decode().splitlines()
    return [line.removeprefix("subterra_") for line in lines if "namespace=" in line and text in line]


def run(status: Object | None = None, **execution: str) -> Object:
    found = make.stored(make.run(name="travel-1"))
    found["metadata"]["ownerReferences"] = [{"kind": "CompiledAgent", "name": "travel", "controller": True}]
    found["spec"]["execution"] = execution
    return {**found, "status": status or {}}


def stage(name: str, state: str, **more: object) -> Object:
    return {"name": name, "state": state, "attempt": 1, "startedAt": "2026-11-20T12:00:00Z", **more}


def agent_status(version: str, *, ready: str = "True", phase: str = "Serving", verdict: str | None = None) -> Object:
    conditions = [
        {"type": "Ready", "status": ready, "reason": "Serving", "lastTransitionTime": "2026-11-20T12:00:00Z"},
        {"type": "UpToDate", "status": "True", "reason": "UpToDate", "lastTransitionTime": "2026-11-20T12:00:00Z"},
    ]
    serving = {"version": version, "modelDigest": "sha256:abc", "modelPath": "models/abc", "run": "travel-1"}
    candidate = {"run": "travel-2", "verdict": Verdict(result=verdict).dump()} if verdict else None  # type: ignore[arg-type]
    return {"conditions": conditions, "phase": phase, "serving": serving, "replicas": 1, "candidate": candidate}


def record(key: Key, status: Object, subject: Object) -> None:
    metrics.record_status(key, status, subject, NOW)


def test_a_finished_run_keeps_three_series() -> None:
    """A thousand agents have six runs each."""
    record(RUN, {"phase": "Training", "stages": [stage("train", "Running")], "usd": "2"}, run())
    assert any("stage_start_timestamp_seconds" in line for line in series())
    done = {"phase": "Succeeded", "stages": [stage("train", "Succeeded")], "usd": "2", "verdict": {"result": "Pass"}}
    record(RUN, done, run())
    labels = f'agent="travel",namespace="{NAMESPACE}"'
    assert series('run="travel-1"') == [
        f'compilerun_phase{{{labels},phase="Succeeded",run="travel-1"}} 1.0',
        f'compilerun_verdict{{{labels},run="travel-1",verdict="Pass"}} 1.0',
        f'compilerun_usd{{{labels},run="travel-1"}} 2.0',
    ]


def test_what_is_not_as_wanted_has_a_reason_and_what_is_has_none() -> None:
    """So that an alert and a dashboard can say why, without a word of any message."""
    record(AGENT, agent_status("abc"), make.stored(make.agent()))
    assert series("condition_reason") == []
    lost = agent_status("abc", ready="False")
    lost["conditions"][0]["reason"] = "InitFailed"
    record(AGENT, lost, make.stored(make.agent()))
    labels = f'agent="travel",condition="Ready",namespace="{NAMESPACE}",reason="InitFailed"'
    assert series("condition_reason") == [f"compiledagent_condition_reason{{{labels}}} 1.0"]
    again = agent_status("abc")
    again["conditions"].append(lost["conditions"][0] | {"type": "Reevaluated", "status": "True", "reason": "VerdictConfirmed"})
    record(AGENT, again, make.stored(make.agent()))
    assert series("condition_reason") == []
    again["conditions"][-1]["reason"] = "VerdictWorsened"
    record(AGENT, again, make.stored(make.agent()))
    assert [line for line in series("condition_reason") if 'reason="VerdictWorsened"' in line and line.endswith(" 1.0")]
    ended = {"type": "Succeeded", "status": "False", "reason": "InvalidInput", "lastTransitionTime": "2026-11-20T12:00:00Z"}
    record(RUN, {"phase": "Failed", "conditions": [ended]}, run())
    assert [line for line in series("compilerun_reason") if 'reason="InvalidInput"' in line and line.endswith(" 1.0")]
    record(RUN, {"phase": "Succeeded", "conditions": [ended | {"status": "True", "reason": "Succeeded"}]}, run())
    assert series("compilerun_reason") == []


def test_a_run_that_ended_no_longer_shows_its_last_progress() -> None:
    run_metrics.record_progress(RUN, "travel", Progress(stage="evaluate", done=166, planned=200))
    assert len(series("stage_done")) == 1
    run_metrics.forget_progress(RUN)
    assert series("compilerun_stage") == []


def test_a_running_stage_shows_when_it_last_reported() -> None:
    status = {"phase": "Training", "stages": [stage("train", "Running", reportedAt="2026-11-20T12:30:00Z")]}
    record(RUN, status, run())
    values = [float(line.rpartition(" ")[2]) for line in series("timestamp_seconds")]
    assert values[1] - values[0] == 1800


def test_stages_that_end_are_counted_once_with_their_outcome() -> None:
    running = {"phase": "Training", "stages": [stage("train", "Running")]}
    failed = {"phase": "Failed", "stages": [stage("train", "Failed", finishedAt="2026-11-20T13:00:00Z", reason="OutOfMemory")]}
    record(RUN, failed, run(running))
    record(RUN, failed, run(failed))
    labels = {"stage": "train", "outcome": "OutOfMemory"}
    assert REGISTRY.get_sample_value("subterra_stage_duration_seconds_count", labels) == 1
    assert REGISTRY.get_sample_value("subterra_stage_duration_seconds_sum", labels) == 3600


def test_spending_is_counted_by_payer_and_provider() -> None:
    paid = run({"phase": "Generating", "stages": [stage("generate", "Running", usd="1.25")]})
    paid["spec"]["inputs"]["generation"] = {"teacher": {"name": "anthropic", "model": "claude-sonnet-5-5"}}
    record(RUN, {"phase": "Generating", "stages": [stage("generate", "Running", usd="3.00")]}, paid)
    labels = {"namespace": NAMESPACE, "payer": "travel", "provider": "anthropic"}
    assert REGISTRY.get_sample_value("subterra_provider_usd_total", labels) == 1.75


def test_a_cap_is_shown_next_to_what_was_paid() -> None:
    record(RUN, {"phase": "Generating", "usd": "9"}, run(maxUSD="10"))
    assert [line.rpartition(" ")[2] for line in series("usd{")] == ["9.0", "10.0"]


def test_a_conditions_former_status_is_gone() -> None:
    record(AGENT, agent_status("v1", ready="False"), make.stored(make.agent()))
    record(AGENT, agent_status("v1", ready="True"), make.stored(make.agent()))
    ready = [line for line in series("compiledagent_condition") if '"Ready"' in line]
    assert [re.findall(r'status="(\w+)"', line) for line in ready] == [["True"]]


def test_the_price_of_a_former_version_is_gone() -> None:
    work = ServedWork(busy_seconds=36, seconds=360, conversations=10)
    costs = ConversationCosts(work, Decimal("2.50"), Decimal(60), (Compared("InContext", "m", Decimal("0.001")),))
    record(AGENT, agent_status("v1"), make.stored(make.agent()))
    agent_metrics.record_costs(AGENT, "v1", costs)
    assert any("usd_per_conversation_with_idle" in line and 'version="v1"' in line for line in series())
    assert any("break_even" in line and line.endswith(" +Inf") for line in series())
    record(AGENT, agent_status("v1"), make.stored(make.agent()))
    assert series('version="v1"'), "a report about the same version leaves its price"
    record(AGENT, agent_status("v2"), make.stored(make.agent()))
    assert series('version="v1"') == []


def test_a_deleted_agent_is_gone_altogether() -> None:
    record(AGENT, agent_status("v1", verdict="Inconclusive"), make.stored(make.agent()))
    assert any("candidate_verdict" in line and 'verdict="Inconclusive"' in line for line in series())
    agent_metrics.record_costs(AGENT, "v1", ConversationCosts(ServedWork(seconds=1, conversations=1), Decimal(1)))
    metrics.remove(AGENT)
    assert series() == []
    assert REGISTRY.get_sample_value("subterra_reconcile_oldest_timestamp_seconds", {"kind": "CompiledAgent"}) is None


def test_the_oldest_check_is_that_of_the_resource_checked_longest_ago() -> None:
    other = Key("CompiledAgent", NAMESPACE, "zoom")
    for key, minutes in ((AGENT, 0), (other, 5), (AGENT, 10)):
        metrics.record_status(key, agent_status("v1"), make.stored(make.agent()), NOW + timedelta(minutes=minutes))
    oldest = REGISTRY.get_sample_value("subterra_reconcile_oldest_timestamp_seconds", {"kind": "CompiledAgent"})
    assert oldest == (NOW + timedelta(minutes=5)).timestamp()


def test_errors_of_the_api_server_are_counted_and_are_no_answer() -> None:
    metrics.record_api_request("GET", 200)
    answered = REGISTRY.get_sample_value("subterra_api_last_answer_timestamp_seconds")
    for code in (0, 503):
        metrics.record_api_request("GET", code)
    assert REGISTRY.get_sample_value("subterra_api_last_answer_timestamp_seconds") == answered
    assert REGISTRY.get_sample_value("subterra_api_requests_total", {"verb": "GET", "code": "0"}) == 1


def test_a_thousand_agents_with_six_runs_each_fit_into_one_scrape() -> None:
    """They took 12 MB."""
    done = {"phase": "Succeeded", "usd": "2", "verdict": {"result": "Pass"}, "stages": [stage("train", "Succeeded")]}
    for number in range(100):
        record(Key("CompiledAgent", NAMESPACE, f"agent-{number}"), agent_status("v1"), make.stored(make.agent()))
        for attempt in range(6):
            record(Key("CompileRun", NAMESPACE, f"agent-{number}-{attempt}"), done, run())
    assert len(generate_latest(REGISTRY)) < 4_000_000 / 10


def test_prices_do_not_start_again_with_a_pod() -> None:
    cache, labels = ObjectCache(), {AGENT_LABEL: "travel", VERSION_LABEL: "v1", COMPONENT_LABEL: "serving"}
    pod = make.pod_of({"metadata": {"name": "p", "uid": "p", "labels": labels}}, running={})
    pod["metadata"]["labels"] = labels
    pod["status"]["podIP"] = "10.0.0.1"
    cache.upsert(pod)
    [running] = cache.running_pods()
    first = ServedWork(busy_seconds=5, seconds=100, conversations=4)
    cache.record_price(running, PodPrice(work=first))
    cache.record_price(running, PodPrice(work=ServedWork(busy_seconds=1, seconds=10, conversations=1)))
    assert cache.departed[NAMESPACE, "travel", "v1"] == first, "the exporter started again"
    cache.remove(pod)
    assert cache.departed[NAMESPACE, "travel", "v1"] == ServedWork(busy_seconds=6, seconds=110, conversations=5)
