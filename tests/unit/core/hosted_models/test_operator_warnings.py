"""Hosted models that retire: runs are refused before anything is paid, agents are warned, and no status is written every day."""

import copy
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.run import decide_run
from subterra_operator.monitoring import metrics, model_metrics
from subterra_operator.resources import Key, Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, RunSnapshot
from subterra_testkit.cluster import kubernetes_objects as make

END = datetime(2027, 1, 14, 12, tzinfo=UTC)
"""The day on which gpt-4.1, the second judge, retires."""
AGENT = Key("CompiledAgent", make.NAMESPACE, "travel")


def paid_agent() -> Object:
    """An agent whose runs are `make.paid_run()`."""
    inputs = make.paid_run()["spec"]["inputs"]
    template = {name: inputs[name] for name in ("generation", "evaluation")}
    return make.agent(compile={"procedureRef": {"name": "travel"}, "template": template})


def agent_at(now: datetime, agent: Object) -> Decision:
    return decide_agent(AgentSnapshot(agent, procedure=make.procedure()), Settings(), now)


def run_at(now: datetime, run: Object, **parts: Any) -> Decision:
    return decide_run(RunSnapshot(run, procedure=make.procedure(), **parts), Settings(), now)


def condition(status: Object | None, kind: str = "ModelRetirement") -> dict[str, Any] | None:
    return next((each for each in (status or {}).get("conditions", []) if each["type"] == kind), None)


def test_an_agent_is_warned_sixty_days_ahead_with_field_date_and_replacement() -> None:
    assert condition(agent_at(END - timedelta(days=61), paid_agent()).status) is None
    found = condition(agent_at(END - timedelta(days=60), paid_agent()).status)
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "ModelRetiresSoon")
    assert found["message"] == (
        "evaluation.secondJudge.model: gpt-4.1 retires on 2027-01-14; use gpt-6-luna; "
        "new runs are refused from that day on, what serves goes on serving"
    )


def test_a_warning_neither_stalls_nor_reconciles_an_agent() -> None:
    with_date, without = (agent_at(day, paid_agent()).status for day in (END - timedelta(days=60), END - timedelta(days=61)))
    for kind in ("Ready", "UpToDate", "Reconciling", "Stalled"):
        before, after = condition(without, kind), condition(with_date, kind)
        assert before is not None
        assert after is not None
        assert (before["status"], before["reason"], before["message"]) == (after["status"], after["reason"], after["message"])


def test_a_status_is_written_twice_in_a_hundred_days() -> None:
    agent, written = paid_agent(), []
    for day in range(-70, 30):
        status = agent_at(END + timedelta(days=day), agent).status
        if status != agent.get("status"):
            written.append((day, (condition(status) or {}).get("reason")))
        agent["status"] = copy.deepcopy(status)
    assert written[1:] == [(-60, "ModelRetiresSoon"), (0, "ModelRetired")]


def test_an_agent_that_serves_a_finished_model_has_nothing_that_retires() -> None:
    served = make.agent(model={"uri": "pvc://models/1", "digest": "sha256:" + "a" * 64})
    del served["spec"]["compile"]
    assert condition(agent_at(END, served).status) is None


def test_a_run_that_names_a_retired_model_is_refused_before_anything_is_paid() -> None:
    decision = run_at(END, make.paid_run())
    succeeded = condition(decision.status, "Succeeded")
    assert decision.writes == ()
    assert succeeded is not None
    assert (succeeded["status"], succeeded["reason"]) == ("False", "InvalidSpec")
    assert "evaluation.secondJudge.model: gpt-4.1 retired on 2027-01-14; use gpt-6-luna" in succeeded["message"]


def test_a_run_that_ends_in_time_is_only_warned() -> None:
    run = make.paid_run()
    run["spec"]["execution"]["apiKeySecrets"] = {name: {"name": name, "key": "key"} for name in ("anthropic", "openai")}
    decision = run_at(END - timedelta(days=1), run)
    found = condition(decision.status)
    assert found is not None
    assert found["reason"] == "ModelRetiresSoon"
    assert any(write.key.kind == "Job" for write in decision.writes)


def retires_on(model: str) -> date | None:
    labels = {"namespace": AGENT.namespace, "agent": AGENT.name, "model": model}
    found = metrics.REGISTRY.get_sample_value("subterra_hosted_model_retirement_timestamp_seconds", labels)
    return None if found is None else datetime.fromtimestamp(found, UTC).date()


def test_the_metric_has_the_day_of_models_with_a_date() -> None:
    model_metrics.record_retirements(AGENT, paid_agent(), date(2027, 1, 4))
    assert (retires_on("gpt-4.1"), retires_on("claude-sonnet-4-6")) == (date(2027, 1, 14), None)
    changed = paid_agent()
    changed["spec"]["compile"]["template"]["evaluation"]["secondJudge"]["model"] = "gpt-5.1"
    model_metrics.record_retirements(AGENT, changed, date(2027, 1, 16))
    assert (retires_on("gpt-4.1"), retires_on("gpt-5.1")) == (None, date(2027, 4, 1))
    model_metrics.forget(AGENT)
    assert retires_on("gpt-5.1") is None


@pytest.mark.parametrize("compile", [None, {"procedureRef": 3}])
def test_an_invalid_or_empty_spec_has_no_metric_and_breaks_nothing(compile: Any) -> None:
    agent = make.agent()
    agent["spec"]["compile"] = compile
    model_metrics.record_retirements(AGENT, agent, date(2027, 1, 4))
    assert retires_on("gpt-4.1") is None


def test_the_condition_metric_goes_when_the_condition_does() -> None:
    labels = {"namespace": AGENT.namespace, "agent": AGENT.name, "condition": "ModelRetirement", "status": "True"}
    name = "subterra_compiledagent_condition"
    for status, value in (
        (agent_at(END, paid_agent()).status, 1),
        ({}, 1),
        (agent_at(END, make.agent()).status, None),
    ):
        metrics.record_status(AGENT, status or {}, paid_agent(), datetime.now(UTC))
        assert metrics.REGISTRY.get_sample_value(name, labels) == value
    metrics.remove(AGENT)
