"""Hosted models of a run that retire: which to refuse, and which to warn about. Pure; today's date is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from subterra_api.job_contract.artifacts import STAGES, Stage
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_core.hosted_models.catalog import HostedModel, Retirement, base_model_named, retirement
from subterra_core.provider_rules import providers_called_by

NamedProvider = tuple[str, Provider]
"""A provider, and the field that names it."""


@dataclass(frozen=True)
class ModelRetirement:
    """An announced retirement of a model that a run names."""

    fields: tuple[str, ...]
    """Fields that name the model, such as `generation.teacher.model`."""
    retirement: Retirement

    def __str__(self) -> str:
        """Such as `generation.teacher.model: gpt-4.1 retires on 2027-01-14; use gpt-6-luna`."""
        return f"{' and '.join(self.fields)}: {self.retirement.message}"


def retirement_of(provider: Provider, today: date) -> Retirement | None:
    """The announced retirement of `provider`'s model; None for a model behind a `baseURL`, which has dates of its own."""
    model = _model_of(provider)
    return None if model is None else retirement(model, today)


def retirements(named: Sequence[NamedProvider], today: date) -> tuple[ModelRetirement, ...]:
    """Announced retirements of these providers' models, the earliest first."""
    found: dict[Retirement, list[str]] = {}
    for field, provider in named:
        if (known := retirement_of(provider, today)) is not None:
            found.setdefault(known, []).append(f"{field}.model")
    listed = (ModelRetirement(tuple(fields), known) for known, fields in found.items())
    return tuple(sorted(listed, key=lambda each: (each.retirement.on, each.retirement.model)))


def retirements_in(inputs: CompileInputs | RunInput, today: date, stages: Sequence[Stage] = STAGES) -> tuple[ModelRetirement, ...]:
    """Announced retirements of all hosted models that these stages of a run with these inputs call, the earliest first."""
    return retirements([named for stage in stages for named in providers_called_by(inputs, stage)], today)


def lifetimes(inputs: CompileInputs | RunInput, today: date) -> tuple[str, ...]:
    """How long the hosted models of a run live by their providers' pages, a line each, without those that `retiring_models` has."""
    named = (*providers_called_by(inputs, "generate"), *providers_called_by(inputs, "evaluate"))
    models = {model.name: model for _, provider in named if (model := _model_of(provider)) is not None}
    return tuple(f"{end} (page of {model.checked})" for model in models.values() if (end := _end(model, today)))


def retired_models(inputs: CompileInputs, today: date, stages: Sequence[Stage] = STAGES) -> tuple[str, ...]:
    """Reasons to refuse these inputs before anything is paid: models whose requests fail. Each names field and replacement."""
    return tuple(str(each) for each in retirements_in(inputs, today, stages) if each.retirement.is_over)


def retiring_models(inputs: CompileInputs | RunInput, today: date) -> tuple[str, ...]:
    """Warnings about models whose requests will fail soon. They have dates, never days left, so they do not change daily."""
    return tuple(str(each) for each in retirements_in(inputs, today) if each.retirement.is_soon)


def _model_of(provider: Provider) -> HostedModel | None:
    """What is known of the model; nothing of one behind a `baseURL`, whatever its name."""
    model = None if provider.base_url else base_model_named(provider.model or "")
    return model if model is not None and model.family == provider.name else None


def _end(model: HostedModel, today: date) -> str:
    """When the model retires, as far as that is known; empty if that is soon or over."""
    if (announced := retirement(model, today)) is not None:
        return "" if announced.is_soon or announced.is_over else announced.message
    if model.not_before is not None:
        return f"{model.name} retires on {model.not_before} at the earliest"
    return f"{model.name}: no retirement is announced"
