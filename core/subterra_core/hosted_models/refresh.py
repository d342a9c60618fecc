"""Updates the table from what providers list: dates, states, limits and efforts. Prices are on no list. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from subterra_core.hosted_models.catalog import Family, HostedModel, State, Thinking, is_dated


@dataclass(frozen=True)
class ListedModel:
    """A model as its provider's list has it; None where the list says nothing."""

    name: str
    family: Family
    state: State | None = None
    """None: derived from `retires_on`."""
    retires_on: date | None = None
    context: int | None = None
    output_limit: int | None = None
    efforts: tuple[str, ...] | None = None
    """Least first."""
    off_type: str | None = None
    """As in `Thinking`; counts only with `efforts`."""


@dataclass(frozen=True)
class Refreshed:
    """The updated table, and what a person has to know or decide."""

    models: tuple[HostedModel, ...]
    changes: tuple[str, ...]
    """One line a changed field, such as `gpt-4.1: retiresOn was none, is 2027-01-14`."""
    unpriced: tuple[str, ...]
    """Listed names without an entry: each needs a price before it can be used."""
    missing: tuple[str, ...]
    """Entries that are not retired by the table and not on their provider's list any more."""


def refresh(models: Sequence[HostedModel], listed: Sequence[ListedModel], today: date) -> Refreshed:
    """The table with what `listed` says; families that have no model in `listed` stay as they are."""
    families = {each.family for each in listed}
    updated, changes, missing = [], list[str](), list[str]()
    for model in models:
        entry = _entry_of(model, listed)
        if entry is None:
            if model.family in families and model.state != "retired":
                missing.append(model.name)
            updated.append(model)
            continue
        fields = _fields(model, entry, today)
        changes += (_change(model, name, value) for name, value in fields.items() if getattr(model, name) != value)
        updated.append(HostedModel.model_validate(dict(model) | fields))
    return Refreshed(tuple(updated), tuple(changes), _unpriced(models, listed), tuple(missing))


def _entry_of(model: HostedModel, listed: Iterable[ListedModel]) -> ListedModel | None:
    """The list's entry for this model: its own name, else an alias or a dated name, newest first."""
    same = [each for each in listed if each.family == model.family]
    named = [each for each in same if each.name == model.name]
    others = [each for each in same if each.name in model.aliases or is_dated(each.name, model.name)]
    return next(iter([*named, *sorted(others, key=lambda each: each.name, reverse=True)]), None)


def _fields(model: HostedModel, entry: ListedModel, today: date) -> dict[str, Any]:
    announced: State = "active" if entry.retires_on is None else "deprecated" if today < entry.retires_on else "retired"
    state = entry.state or announced
    fields: dict[str, Any] = {
        "state": state,
        "retires_on": entry.retires_on or (today if state == "retired" else None),
        "context": entry.context or model.context,
        "output_limit": entry.output_limit or model.output_limit,
    }
    if entry.efforts and model.efforts:
        default = model.thinking.default_effort
        kept = default if default in entry.efforts else None
        listed = {"efforts": entry.efforts, "default_effort": kept, "off_type": entry.off_type}
        fields["thinking"] = model.thinking.model_copy(update=listed)
    return fields


def _change(model: HostedModel, name: str, value: object) -> str:
    if isinstance(value, Thinking):
        return f"{model.name}: thinking was {_thinking(model.thinking)}, is {_thinking(value)}"
    alias = HostedModel.model_fields[name].alias or name
    return f"{model.name}: {alias} was {getattr(model, name) or 'none'}, is {value or 'none'}"


def _thinking(thinking: Thinking) -> str:
    return f"{'/'.join(thinking.efforts)} with {thinking.off_type or 'no way to turn it off'}"


def _unpriced(models: Sequence[HostedModel], listed: Sequence[ListedModel]) -> tuple[str, ...]:
    names = {name for model in models for name in (model.name, *model.aliases)}
    return tuple(
        sorted(
            each.name
            for each in listed
            if each.state != "retired" and not any(each.name == name or is_dated(each.name, name) for name in names)
        )
    )
