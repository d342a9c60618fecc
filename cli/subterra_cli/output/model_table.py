"""Hosted models as a table and as JSON data."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.table import Table

from subterra_core.hosted_models.catalog import HostedModel

COLUMNS = ("MODEL", "INPUT", "CACHED", "OUTPUT", "BATCH", "STATE", "RETIRES ON", "REPLACEMENT")
_TEXT_COLUMNS = ("MODEL", "STATE", "RETIRES ON", "REPLACEMENT")
FOOTER = "US dollars per million tokens; `subterra models -o json` has limits, efforts, sources and notes"


def table(models: Sequence[HostedModel]) -> Table:
    """A row for each model."""
    result = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for title in COLUMNS:
        result.add_column(title, justify="left" if title in _TEXT_COLUMNS else "right", no_wrap=True)
    for model in models:
        prices = model.usd_per_million
        amounts = (f"${amount.normalize():f}" for amount in (prices.input, prices.cache_read, prices.output))
        batch = "" if model.batch_factor == 1 else f"{(model.batch_factor * Decimal(100)).normalize():f}%"
        result.add_row(model.name, *amounts, batch, model.state, _end(model), model.replacement or "")
    return result


def _end(model: HostedModel) -> str:
    if model.retires_on is not None:
        return model.retires_on.isoformat()
    return f"not before {model.not_before}" if model.not_before else ""


def data(models: Sequence[HostedModel]) -> list[dict[str, Any]]:
    """The models as JSON data, with everything that is known."""
    return [model.model_dump(mode="json", by_alias=True) for model in models]
