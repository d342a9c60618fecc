"""Typed access to `models.yaml`: what each hosted model costs, how it thinks and when it retires. Pure; dates are arguments."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

WARNING_DAYS = 60
"""How long before its retirement a model is warned about; Anthropic promises at least that much notice."""
TABLE_FILE = "models.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where PyYAML has it: ten times as fast
Family = Literal["anthropic", "openai"]
State = Literal["active", "deprecated", "retired"]
Usd = Annotated[Decimal, Field(ge=0, strict=False)]
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
_FINE_TUNED = re.compile(r"ft:([^:]+):")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ModelPrices(_Part):
    """List prices in US dollars per million tokens."""

    input: Usd
    output: Usd
    cache_read: Usd
    cache_write: Usd
    """For the shortest retention: five minutes at Anthropic, 30 minutes at OpenAI."""
    cache_write_long: Usd
    """For the longest retention: one hour at Anthropic, twelve hours at OpenAI."""


class LongPrompts(_Part):
    """Surcharge on whole requests whose prompt is longer than `above` tokens."""

    above: int
    input_factor: Usd
    """Of input and cache prices."""
    output_factor: Usd


class Thinking(_Part):
    """How a model reasons before it answers. Such tokens are billed as output and count toward the output limit."""

    default: bool
    """Whether it thinks when a request does not mention it."""
    efforts: tuple[str, ...] = ()
    """Accepted efforts, least first; empty if the model has no such setting."""
    default_effort: str | None = None
    field: str | None = None
    """Request field of the effort: `output_config.effort` or `reasoning_effort`."""
    off_type: str | None = None
    """Value of Anthropic's `thinking.type` without thinking up front, at efforts up to high; None if there is no such value."""


class HostedModel(_Part):
    """One model that is called by this name at its provider's own API."""

    name: str
    family: Family
    aliases: tuple[str, ...] = ()
    """Other names besides `name` with a date suffix."""
    usd_per_million: ModelPrices
    batch_factor: Usd = Decimal(1)
    """Price of the batch API relative to `usd_per_million`; 1 if there is no discount."""
    long_prompts: LongPrompts | None = None
    context: int
    """Tokens of prompt and response together."""
    output_limit: int
    """Tokens of a response, thinking included."""
    thinking: Thinking
    minimum_cached_tokens: int
    """Prompts with a shorter constant part are not cached."""
    tokens_per_word: Usd
    """Approximate, for English."""
    state: State
    retires_on: date | None = None
    """Announced day from which requests fail."""
    not_before: date | None = None
    """Earliest possible retirement of a model without `retires_on`, where the provider names one."""
    replacement: str | None = None
    """The provider's recommendation."""
    source: str
    """Page that the facts were read on."""
    checked: date
    """Day on which they were read."""
    note: str | None = None
    """What is uncertain: pages that disagree, facts that were not found."""

    @property
    def thinks(self) -> bool:
        """Whether the model thinks by default."""
        return self.thinking.default

    @property
    def efforts(self) -> tuple[str, ...]:
        """Accepted efforts, least first; empty if the model has no such setting."""
        return self.thinking.efforts

    @property
    def least_effort(self) -> str | None:
        """The accepted effort with the fewest thinking tokens."""
        return self.efforts[0] if self.efforts else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.state == "retired" and self.retires_on is None:
            raise ValueError(f"{self.name}: a retired model has retiresOn")
        if bool(self.thinking.efforts) != bool(self.thinking.field):
            raise ValueError(f"{self.name}: thinking.efforts and thinking.field come together")
        return self


@dataclass(frozen=True)
class Retirement:
    """A model's end: its announced date, and what replaces it."""

    model: str
    on: date
    replacement: str
    is_over: bool
    """Whether requests fail."""
    is_soon: bool
    """Whether requests will fail within `WARNING_DAYS`."""

    @property
    def message(self) -> str:
        """Such as `gpt-4.1 retires on 2027-01-14; use gpt-6-luna`. It has the date, never the days left."""
        return f"{self.model} {'retired' if self.is_over else 'retires'} on {self.on}; use {self.replacement}"


def retirement(model: HostedModel, today: date) -> Retirement | None:
    """The announced retirement of `model` as seen on `today`; None if none is announced."""
    if model.retires_on is None:
        return None
    over = model.state == "retired" or today >= model.retires_on
    soon = not over and today + timedelta(days=WARNING_DAYS) >= model.retires_on
    return Retirement(model.name, model.retires_on, model.replacement or "another model", over, soon)


def lives_until(model: HostedModel) -> date | None:
    """Last day that is certain: before the announced retirement, or else before the earliest possible one; None if open."""
    end = model.retires_on or model.not_before
    return None if end is None else end - timedelta(days=1)


def parse_table(text: str) -> tuple[HostedModel, ...]:
    """Models of a table in YAML. Raises ValueError for an invalid table."""
    entries = yaml.load(text, _LOADER)["models"]  # noqa: S506 - a safe loader of either kind
    models = tuple(HostedModel.model_validate(entry, by_alias=True, by_name=False) for entry in entries)
    _names(models)
    return models


def dump_table(models: Iterable[HostedModel]) -> str:
    """The table as text, in the form in which it is kept: `dump_table(parse_table(text)) == text`."""
    entries = [_plain(model.model_dump(by_alias=True, exclude_defaults=True)) for model in models]
    blocks = (yaml.safe_dump([entry], sort_keys=False, default_flow_style=None, width=120, allow_unicode=True) for entry in entries)
    return f"{_HEADER}models:\n" + "\n".join(blocks)


_HEADER = """\
# Hosted models, read by subterra_core.hosted_models.catalog. Prices are list prices in US dollars per million tokens.
# `subterra models refresh` updates dates, states and limits from the providers and keeps this form; prices have no endpoint.
"""


def table_text() -> str:
    """The table that comes with this version."""
    return (files(__package__) / TABLE_FILE).read_text("utf-8")


@cache
def hosted_models() -> tuple[HostedModel, ...]:
    """All known models, retired ones included."""
    return parse_table(table_text())


@cache
def _by_name() -> Mapping[str, HostedModel]:
    return _names(hosted_models())


def model_named(name: str) -> HostedModel | None:
    """The model of this name, alias or dated name; None if it is unknown."""
    known = _by_name()
    suffix = _DATED.search(name)
    return known.get(name) or (known.get(name[: suffix.start()]) if suffix else None)


def is_dated(name: str, model: str) -> bool:
    """Whether `name` is `model` with a date suffix."""
    return name.startswith(model) and _DATED.fullmatch(name[len(model) :]) is not None


def base_model_named(name: str) -> HostedModel | None:
    """Like `model_named`, and for OpenAI's fine-tuned models (`ft:<base>:…`) their base, with which they retire."""
    tuned = _FINE_TUNED.match(name)
    return model_named(tuned[1] if tuned else name)


def close_names(name: str, others: Iterable[str] = ()) -> tuple[str, ...]:
    """Up to three names of active models, or of `others`, that `name` may have been meant for; the likeliest first."""
    known = [*(model.name for model in hosted_models() if model.state == "active"), *others]
    begun = sorted((each for each in known if name and each.startswith(name)), reverse=True)
    alike = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return tuple(dict.fromkeys((*begun, *alike)))[:3]


def _names(models: Iterable[HostedModel]) -> dict[str, HostedModel]:
    result: dict[str, HostedModel] = {}
    for model in models:
        for name in (model.name, *model.aliases):
            if name in result:
                raise ValueError(f"{name} names two models")
            result[name] = model
    return result


def _plain(value: Any) -> Any:
    """`value` with what YAML has no plain form for turned into text and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value
