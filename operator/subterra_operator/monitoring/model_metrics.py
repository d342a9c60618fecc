"""The metric of hosted models that retire. Each reconcile computes the days, so they count down without writing a status."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from prometheus_client import Gauge
from pydantic import ValidationError

from subterra_api.v1alpha1.compiledagent import CompileSource
from subterra_core.model_retirements import retirements_in
from subterra_operator.decide.retiring_models import models_of
from subterra_operator.monitoring.metrics import REGISTRY
from subterra_operator.resources import Key

RETIREMENT_DAYS = Gauge(
    "subterra_model_retirement_days",
    "Days until a hosted model that an agent names retires; negative afterwards. Absent without an announced date.",
    ["namespace", "agent", "model"],
    registry=REGISTRY,
)
_recorded: dict[Key, frozenset[str]] = {}


def record_retirements(agent: Key, subject: Mapping[str, Any], today: date) -> None:
    """Sets the days of each model that the agent's future runs call; an invalid spec leaves them as they were."""
    source = subject["spec"].get("compile")
    try:
        found = retirements_in(models_of(CompileSource.model_validate(source)), today) if source else ()
    except ValidationError:
        return
    days = {each.retirement.model: (each.retirement.on - today).days for each in found}
    forget_retirements(agent, keep=frozenset(days))
    for model, left in days.items():
        RETIREMENT_DAYS.labels(agent.namespace, agent.name, model).set(left)
    if days:
        _recorded[agent] = frozenset(days)


def forget_retirements(agent: Key, keep: frozenset[str] = frozenset()) -> None:
    """Removes the agent's gauges, except those of the models to `keep`."""
    for model in _recorded.pop(agent, frozenset()) - keep:
        RETIREMENT_DAYS.remove(agent.namespace, agent.name, model)
