"""Caps of runs: what the administrator allows, and what an attempt gets."""

import pytest
from pydantic import ValidationError

from subterra_api.job_contract.environment import BUDGET_VARIABLE
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.settings import BudgetSettings, Settings
from subterra_operator.snapshot import RunSnapshot
from subterra_operator.specs.stage_env.run_caps import cap_problems, caps_of
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition, message

PAID = CompileInputs.model_validate(make.paid_run()["spec"]["inputs"])
SCRIPTED = CompileInputs.model_validate(make.run()["spec"]["inputs"])


def settings(**budgets: object) -> Settings:
    return Settings(budgets=BudgetSettings.model_validate(budgets))


def execution(**caps: str) -> ExecutionSettings:
    return ExecutionSettings.model_validate(caps)


@pytest.mark.parametrize(
    ("own", "budgets", "effective"),
    [
        (None, {}, None),
        ("300", {}, "300"),
        (None, {"maxUSDPerRun": "100"}, "100"),
        (None, {"maxUSDPerRun": "100", "defaultMaxUSDPerRun": "20"}, "20"),
        ("50", {"maxUSDPerRun": "100", "defaultMaxUSDPerRun": "20"}, "50"),
        ("300", {"maxUSDPerRun": "100"}, "100"),
        ("0", {"defaultMaxUSDPerRun": "20"}, "0"),
    ],
)
def test_an_attempt_gets_its_own_cap_the_default_or_the_highest(
    own: str | None, budgets: dict[str, str], effective: str | None
) -> None:
    wanted = execution(**({"maxUSD": own} if own else {}), maxUSDPer30Days="900")
    caps = caps_of(wanted, settings(**budgets), "demo")
    assert (caps.max_usd, caps.max_usd_per_30_days) == (effective, "900")


def test_a_run_that_may_pay_more_than_the_administrator_allows_is_refused_with_both_values_and_the_fix() -> None:
    paid = make.paid_run()
    paid["spec"]["execution"] = {"maxUSD": "300", "apiKeySecrets": {key: {"name": "keys"} for key in ("anthropic", "openai")}}
    decision = decide_run(RunSnapshot(paid, make.procedure()), settings(maxUSDPerRun="100"), make.NOW)
    assert decision.writes == ()
    assert condition(decision, "Stalled") == ("True", "InvalidSpec")
    told = message(decision, "Stalled")
    assert "may pay up to $300, and the administrator allows $100 per run; set spec.budget.maxUSDPerRun of the agent" in told
    assert told.count("$300") == 1, "once, not once a stage"
    paid["spec"]["execution"]["maxUSD"] = "100"
    assert decide_run(RunSnapshot(paid, make.procedure()), settings(maxUSDPerRun="100"), make.NOW).writes


def test_a_paid_model_without_any_cap_is_refused_only_where_the_administrator_wants_it() -> None:
    strict = settings(allowUncapped=False)
    assert [*cap_problems("generate", PAID, execution(), settings())] == []
    [problem] = cap_problems("generate", PAID, execution(), strict)
    assert "generation.teacher claude-sonnet-4-6 costs money and no cap is set" in problem
    for capped in (execution(maxUSD="5"), execution(maxUSDPer30Days="5")):
        assert [*cap_problems("generate", PAID, capped, strict)] == []
    assert [*cap_problems("generate", PAID, execution(), settings(allowUncapped=False, defaultMaxUSDPerRun="5"))] == []


def test_what_costs_nothing_needs_no_cap() -> None:
    strict = settings(allowUncapped=False, maxUSDPerRun="1")
    assert [*cap_problems("generate", SCRIPTED, execution(maxUSD="5"), strict)] == []
    assert [*cap_problems("train", PAID, execution(), strict)] == []


def test_a_default_above_the_highest_cap_is_no_setting() -> None:
    with pytest.raises(ValidationError, match=r"defaultMaxUSDPerRun \(20\) must not be above maxUSDPerRun \(10\)"):
        settings(maxUSDPerRun="10", defaultMaxUSDPerRun="20")


NAMESPACES = {"maxUSDPerNamespacePer30Days": "500", "maxUSDPer30DaysByNamespace": {"team-a": "2000", "trial": "0"}}


@pytest.mark.parametrize(("namespace", "cap"), [("demo", "500"), ("team-a", "2000"), ("trial", "0")])
def test_an_attempt_gets_the_cap_of_its_namespace(namespace: str, cap: str) -> None:
    assert caps_of(execution(), settings(**NAMESPACES), namespace).max_usd_per_namespace_per_30_days == cap
    assert caps_of(execution(), settings(maxUSDPer30DaysByNamespace={"x": "1"}), "demo").max_usd_per_namespace_per_30_days is None


def budget_of(job: Object) -> str:
    [main] = job["spec"]["template"]["spec"]["containers"]
    [found] = [item["value"] for item in main["env"] if item["name"] == BUDGET_VARIABLE]
    return str(found)


def test_the_job_carries_it_and_without_one_is_the_same_as_before() -> None:
    run, attempt = make.paid_run(), Attempt("generate", 1)
    capped = stage_job(run, execution(maxUSD="5"), attempt, settings(**NAMESPACES))
    assert budget_of(capped) == '{"maxUSD":"5","maxUSDPerNamespacePer30Days":"500"}'
    elsewhere = settings(maxUSDPer30DaysByNamespace={"trial": "0"})
    assert stage_job(run, execution(maxUSD="5"), attempt, elsewhere) == stage_job(run, execution(maxUSD="5"), attempt, settings())
    assert budget_of(stage_job(run, execution(maxUSD="5"), attempt, settings())) == '{"maxUSD":"5"}'


def test_the_cap_of_the_namespace_is_no_cap_of_a_run() -> None:
    strict = settings(allowUncapped=False, **NAMESPACES)
    [problem] = cap_problems("generate", PAID, execution(), strict)
    assert "no cap is set" in problem
