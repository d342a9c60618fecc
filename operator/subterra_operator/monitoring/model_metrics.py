"""The metric of hosted models that retire: the day itself, so that it changes only with the agent or the list of models."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1.compiledagent import CompileSource
from subterra_core.model_retirements import retirements_in
from subterra_operator.decide.retiring_models import models_of
from subterra_operator.monitoring.series import ResourceGauges, Sample
from subterra_operator.resources import Key

NAME = "hosted_model_retirement_timestamp_seconds"
_RETIREMENTS = ResourceGauges(NAME)
_recorded: dict[Key, tuple[str, int, date]] = {}
"""The UID and generation of each agent that the gauges are about, and the day."""


def record_retirements(agent: Key, subject: Mapping[str, Any], today: date) -> None:
    """Sets the day of each model that the agent's future runs call; an invalid spec leaves them as they were.

    The spec is read once per generation and day.
    """
    stamp = (subject["metadata"]["uid"], subject["metadata"].get("generation", 0), today)
    if _recorded.get(agent) == stamp:
        return
    _recorded[agent] = stamp
    source = subject["spec"].get("compile")
    try:
        found = retirements_in(models_of(CompileSource.model_validate(source)), today) if source else ()
    except ValidationError:
        return
    days = {each.retirement.model: each.retirement.on for each in found}
    samples = (Sample(NAME, (agent.name, model), _midnight(day)) for model, day in days.items())
    _RETIREMENTS.report(agent, samples)


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def forget(key: Key) -> None:
    """Removes the agent's gauges."""
    _recorded.pop(key, None)
    _RETIREMENTS.remove(key)


def forget_all() -> None:
    """Removes the gauges of all agents."""
    _recorded.clear()
    _RETIREMENTS.clear()
