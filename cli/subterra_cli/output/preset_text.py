"""Presets as a table and as JSON data, and one of them as a manifest."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import yaml
from rich.table import Table

from subterra_core.presets.preset_catalog import Preset
from subterra_core.training_fit.training_plan import gigabytes

COLUMNS = ("PRESET", "GPUS", "PER GPU OR RANK", "HOST", "STORE", "FITS", "FOR")
FOOTER = "memory by the estimate of `subterra plan`; `subterra preset NAME` prints the manifest of an agent"


def table(presets: Sequence[Preset]) -> Table:
    """A row for each preset."""
    result = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for title in COLUMNS:
        result.add_column(title, no_wrap=title != "FOR")
    for preset in presets:
        plan = preset.plan
        gpus = f"{plan.gpus} × {preset.card.name}" if preset.card else "none"
        needs = (gigabytes(plan.memory.peak), gigabytes(plan.host_bytes), preset.store)
        result.add_row(preset.name, gpus, *needs, "no" if plan.misfit else "yes", preset.summary)
    return result


def data(presets: Sequence[Preset]) -> list[dict[str, Any]]:
    """The presets as JSON data, sizes in bytes."""
    return [
        {
            "name": preset.name,
            "summary": preset.summary,
            "card": preset.card.name if preset.card else None,
            "gpus": preset.plan.gpus,
            "pool": preset.pool,
            "bytesPerRank": preset.plan.memory.peak,
            "hostBytes": preset.plan.host_bytes,
            "storeSize": preset.store,
            "fits": preset.plan.misfit is None,
            "template": preset.template,
            "serving": preset.serving,
        }
        for preset in presets
    ]


def manifest_text(preset: Preset, manifest: Mapping[str, Any]) -> str:
    """The manifest as YAML, with what it is and what it needs in comments."""
    about = [f"{preset.name}: {preset.summary}. Printed by `subterra preset {preset.name}`; edit it as you like."]
    if preset.card:
        about.append(f"It needs {preset.plan.gpus} × {preset.card.name} in its node pool, and store.size: {preset.store} or more.")
        about.append("Not run on GPUs by this project.")
    about += [f"WARNING: {warning}." for warning in preset.plan.warnings]
    comment = "".join(f"# {line}\n" for text in about for line in wrap(text, 118))
    return comment + yaml.safe_dump(dict(manifest), sort_keys=False, default_flow_style=None, width=118)
