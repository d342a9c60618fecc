"""Tracing: stages learn of a collector where the administrator names one; elsewhere every object is as before."""

from typing import Any

import pytest
from pydantic import ValidationError

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.environment import COLLECTOR_VARIABLE, TRACED_CALLS_VARIABLE
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.namespace_policies import namespace_policies
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_testkit.cluster import kubernetes_objects as make

COLLECTOR = "http://otel-collector.observability:4318"
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")


def settings(**tracing: Any) -> Settings:
    return Settings.model_validate({"tracing": tracing})


def job(stage: Stage, found: Settings, *, attach: bool = False) -> Object:
    return stage_job(make.run(), ExecutionSettings(), Attempt(stage, 1, attach), found)


def environment(made: Object) -> dict[str, str]:
    [main] = made["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in main["env"]}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_told_the_collector_and_without_one_the_job_is_the_same_as_before(stage: Stage) -> None:
    traced, plain = environment(job(stage, settings(endpoint=COLLECTOR))), environment(job(stage, Settings()))
    assert traced == plain | {COLLECTOR_VARIABLE: COLLECTOR}
    assert not [name for name in plain if name.startswith("OTEL_")]
    assert job(stage, settings()) == job(stage, Settings())


def test_a_share_of_the_calls_is_told_and_reading_back_a_result_is_not_traced() -> None:
    some = settings(endpoint=COLLECTOR, callRatio=0.05)
    assert environment(job("generate", some))[TRACED_CALLS_VARIABLE] == "0.05"
    assert COLLECTOR_VARIABLE not in environment(job("generate", some, attach=True))


def test_stages_may_reach_a_collector_in_the_cluster_and_nobody_else_may() -> None:
    inside = settings(endpoint=COLLECTOR, namespace="observability")
    opened = [each["metadata"]["name"] for each in network_policies("demo", inside) if "observability" in str(each["spec"])]
    assert opened == ["subterra-providers", "subterra-hub"]
    assert network_policies("demo", settings(endpoint=COLLECTOR)) == network_policies("demo", Settings())
    assert namespace_policies("demo", inside) != namespace_policies("demo", Settings())


@pytest.mark.parametrize(
    ("tracing", "said"),
    [
        ({"endpoint": "otel-collector:4318"}, "pattern"),
        ({"endpoint": COLLECTOR, "callRatio": 1.5}, "less than or equal to 1"),
    ],
    ids=["no scheme", "a ratio"],
)
def test_a_wrong_setting_ends_the_operator_with_the_fix(tracing: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**tracing)
