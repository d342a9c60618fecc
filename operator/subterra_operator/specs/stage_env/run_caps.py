"""The caps of a run: its own, and the administrator's."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings
from subterra_core.provider_rules import providers_called_by
from subterra_operator.resources import owning_agent
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_env.provider_env import is_free

FIELD = "spec.budget.maxUSDPerRun of the agent, or spec.execution.maxUSD of a run without one"


def caps_of(execution: ExecutionSettings, settings: Settings, namespace: str) -> Budget:
    """The caps that an attempt gets. They never exceed the administrator's, whatever was checked before."""
    highest = settings.budgets.max_usd_per_run
    wanted = execution.max_usd or settings.budgets.default_max_usd_per_run or highest
    if wanted is not None and highest is not None and Decimal(wanted) > Decimal(highest):
        wanted = highest
    return Budget(
        max_usd=wanted,
        max_usd_per_30_days=execution.max_usd_per_30_days,
        max_usd_per_namespace_per_30_days=settings.budgets.cap_of_namespace(namespace),
    )


def caps_in_words(run: Mapping[str, Any], execution: ExecutionSettings, settings: Settings) -> str:
    """That a cap was reached, and all caps of a run with their fields, for a Job that did not say which of them it was."""
    name, namespace, agent = run["metadata"]["name"], run["metadata"]["namespace"], owning_agent(run)
    caps, chart = caps_of(execution, settings, namespace), "budgets in the chart's values"
    owner, section, field = (f"agent {agent}", "budget", "maxUSDPerRun") if agent else (f"run {name}", "execution", "maxUSD")
    own = f"spec.{section}.{field} of {owner}"
    found = (
        (caps.max_usd, "per run", own if caps.max_usd == execution.max_usd else chart),
        (caps.max_usd_per_30_days, "per 30 days", f"spec.{section}.maxUSDPer30Days of {owner}"),
        (caps.max_usd_per_namespace_per_30_days, f"per 30 days for namespace {namespace}", chart),
    )
    named = [f"${cap} {period} ({field})" for cap, period, field in found if cap is not None]
    return f"a cap was reached: {' or '.join(named) or f'one in spec.{section} of {owner}, where none is set any more'}"


def cap_problems(stage: Stage, inputs: CompileInputs, execution: ExecutionSettings, settings: Settings) -> Iterator[str]:
    """Why the administrator's caps do not allow a stage, with the value and the fix. A stage that pays nothing needs no cap."""
    paid = [
        f"{field} {item.model or item.name}" for field, item in providers_called_by(inputs, stage) if not is_free(item, settings)
    ]
    if not paid:
        return
    own, highest = execution.max_usd, settings.budgets.max_usd_per_run
    if own is not None and highest is not None and Decimal(own) > Decimal(highest):
        text = f"this run may pay up to ${own}, and the administrator allows ${highest} per run"
        yield f"{text}; set {FIELD}, to {highest} or less, or raise budgets.maxUSDPerRun in the chart's values"
    own_caps = (execution.max_usd_per_30_days, own, settings.budgets.default_max_usd_per_run, highest)
    if own_caps == (None,) * 4 and not settings.budgets.allow_uncapped:
        text = f"{paid[0]} costs money and no cap is set, which the administrator does not allow"
        yield f"{text}; set {FIELD}, or budgets.defaultMaxUSDPerRun in the chart's values"
