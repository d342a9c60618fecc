"""Typed access to `presets.yaml`, and a preset as the manifest of an agent."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import yaml

from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.base import LocalReference
from subterra_api.v1alpha1.compiledagent import RunTemplate, ServingSettings
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_core.training_fit.gpu_cards import GpuCard, card_named
from subterra_core.training_fit.model_shape import shape_of
from subterra_core.training_fit.training_plan import TrainingPlan, plan_training

PRESETS_FILE = "presets.yaml"


class UnknownPresetError(ValueError):
    """There is no preset of this name; the message has those that there are."""


@dataclass(frozen=True)
class Preset:
    """Settings of an agent for one model on one kind of hardware."""

    name: str
    summary: str
    card: GpuCard | None
    """The GPU that it is made for; None for CPUs."""
    pool: str | None
    """The node pool that its pods name."""
    store: str
    """Least size of the store's claim."""
    template: Mapping[str, Any]
    """`spec.compile.template` of an agent, as JSON."""
    serving: Mapping[str, Any]
    """`spec.serving` of an agent, as JSON."""

    @cached_property
    def run_template(self) -> RunTemplate:
        """The same, typed."""
        return RunTemplate.model_validate(self.template)

    @cached_property
    def plan(self) -> TrainingPlan:
        """What its training needs, by the estimate."""
        template = self.run_template
        inputs = CompileInputs(
            procedure_ref=LocalReference(name=self.name),
            base_model=template.base_model,
            generation=template.generation,
            training=template.training,
        )
        return plan_training(inputs, template.execution.train, shape_of(template.base_model.uri), self.store, self.card)

    def manifest(self, agent: str, procedure: str, pool: str | None = None) -> dict[str, Any]:
        """A CompiledAgent with these settings; ``pool`` replaces the name of the preset's own."""
        template = {**self.template, "execution": _in_pool(self.template.get("execution", {}), pool)}
        spec: dict[str, Any] = {"compile": {"procedureRef": {"name": procedure}, "template": template}}
        if self.serving:
            spec["serving"] = _in_pool(self.serving, pool)
        return {"apiVersion": API_VERSION, "kind": "CompiledAgent", "metadata": {"name": agent}, "spec": spec}


@cache
def presets() -> tuple[Preset, ...]:
    """All presets, the smallest model first."""
    entries = yaml.safe_load(files(__package__).joinpath(PRESETS_FILE).read_text("utf-8"))["presets"]
    return tuple(_preset(entry) for entry in entries)


def preset_named(name: str) -> Preset:
    """The preset of this name. Raises UnknownPresetError."""
    found = next((preset for preset in presets() if preset.name == name), None)
    if found is None:
        raise UnknownPresetError(f"there is no preset {name}; there are {', '.join(preset.name for preset in presets())}")
    return found


def _preset(entry: Mapping[str, Any]) -> Preset:
    card, serving = entry.get("card"), entry.get("serving", {})
    RunTemplate.model_validate(entry["template"])
    ServingSettings.model_validate(serving)
    known = card_named(card) if card else None
    if card and known is None:
        raise ValueError(f"{entry['name']}: {card} is not a card in gpu_cards.yaml")
    return Preset(entry["name"], entry["summary"], known, entry.get("pool"), entry["store"], entry["template"], serving)


def _in_pool(settings: Any, pool: str | None) -> Any:
    """``settings`` with every `pool` in them renamed."""
    if pool is None or not isinstance(settings, Mapping):
        return settings
    return {key: pool if key == "pool" else _in_pool(value, pool) for key, value in settings.items()}
