"""The table of hosted models can be believed: complete, consistent, and asked with a date."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from subterra_core.hosted_models.catalog import (
    WARNING_DAYS,
    HostedModel,
    base_model_named,
    close_names,
    dump_table,
    hosted_models,
    lives_until,
    model_named,
    parse_table,
    retirement,
    table_text,
)

ALL = pytest.mark.parametrize("model", hosted_models(), ids=lambda model: model.name)
END = date(2027, 1, 14)


def named(name: str) -> HostedModel:
    found = model_named(name)
    assert found is not None
    return found


def test_the_table_is_kept_in_the_form_that_refresh_writes() -> None:
    assert dump_table(parse_table(table_text())) == table_text()


@ALL
def test_an_entry_says_where_and_when_its_facts_were_read(model: HostedModel) -> None:
    pages = {"anthropic": "https://platform.claude.com/docs/", "openai": "https://developers.openai.com/api/docs/"}
    assert model.source.startswith(pages[model.family])
    assert model.checked >= date(2026, 11, 28)


@ALL
def test_prices_and_limits_are_plausible(model: HostedModel) -> None:
    prices = model.usd_per_million
    assert 0 < prices.cache_read <= prices.input <= prices.cache_write <= prices.cache_write_long
    assert prices.input <= prices.output
    assert 0 < model.batch_factor <= 1
    assert 0 < model.output_limit <= model.context
    assert 0 < model.minimum_cached_tokens <= 4096
    assert Decimal(1) < model.tokens_per_word < 2


@ALL
def test_a_model_that_thinks_can_be_told_to_think_least(model: HostedModel) -> None:
    order = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    assert list(model.efforts) == sorted(model.efforts, key=order.index)
    assert model.least_effort is not None or not model.thinks
    assert model.thinking.default_effort in (*model.efforts, None)
    assert model.thinking.off_type in ("disabled", "between_tools", None)


@ALL
def test_users_of_a_model_that_ends_are_told_one_that_lives_on(model: HostedModel) -> None:
    if model.state == "active":
        assert model.retires_on is None
        return
    assert model.retires_on is not None
    seen, following = {model.name}, model.replacement
    while following is not None and (after := named(following)).state != "active":
        assert after.name not in seen
        seen.add(after.name)
        following = after.replacement
    assert following is not None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-0", "claude-sonnet-4"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-6-luna-pro", None),
        ("claude-sonnet-4-50", None),
        ("", None),
    ],
)
def test_a_dated_name_is_the_model_unless_it_has_an_entry_of_its_own(name: str, model: str | None) -> None:
    found = model_named(name)
    assert (found and found.name) == model


def test_a_fine_tuned_model_ends_with_its_base() -> None:
    base = base_model_named("ft:gpt-4.1-mini-2025-04-14:acme::abc")
    assert base is not None
    assert base.name == "gpt-4.1-mini"
    assert model_named("ft:gpt-4.1-mini-2025-04-14:acme::abc") is None, "its price is not that of the base"


@pytest.mark.parametrize(
    ("today", "over", "soon"),
    [
        (END - timedelta(days=WARNING_DAYS + 1), False, False),
        (END - timedelta(days=WARNING_DAYS), False, True),
        (END - timedelta(days=1), False, True),
        (END, True, False),
        (END + timedelta(days=400), True, False),
    ],
)
def test_a_retirement_is_soon_for_sixty_days_and_over_from_its_day_on(today: date, over: bool, soon: bool) -> None:
    found = retirement(named("gpt-4.1"), today)
    assert found is not None
    assert (found.is_over, found.is_soon) == (over, soon)


def test_what_is_said_of_a_retirement_changes_once_and_not_every_day() -> None:
    days = [END + timedelta(days=offset) for offset in range(-WARNING_DAYS, 30)]
    said = {found.message for day in days if (found := retirement(named("gpt-4.1"), day))}
    assert said == {"gpt-4.1 retires on 2027-01-14; use gpt-6-luna", "gpt-4.1 retired on 2027-01-14; use gpt-6-luna"}


def test_the_last_certain_day_is_before_an_announced_or_earliest_retirement() -> None:
    assert lives_until(named("gpt-4.1")) == date(2027, 1, 13)
    assert lives_until(named("claude-sonnet-4-6")) == date(2027, 2, 16)
    assert lives_until(named("gpt-6-luna")) is None


@pytest.mark.parametrize(
    ("wrong", "first"), [("gpt-6-lunar", "gpt-6-luna"), ("claude-sonnet-5.5", "claude-sonnet-5-5"), ("qwen", "qwen3")]
)
def test_a_slip_is_recognized_and_nothing_that_ends_is_proposed(wrong: str, first: str) -> None:
    found = close_names(wrong, ["qwen3"])
    assert found[0] == first
    assert all(model.state == "active" for name in found if (model := model_named(name)))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"aliases": ["gpt-4o"]}, "gpt-4o names two models"),
        ({"state": "retired", "retiresOn": None}, "a retired model has retiresOn"),
        ({"thinking": {"default": True, "efforts": ["low"]}}, "thinking.efforts and thinking.field come together"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_an_inconsistent_table_is_refused(change: dict[str, object], problem: str) -> None:
    models = [model.model_dump(mode="json", by_alias=True) for model in hosted_models()]
    models[0] |= change
    with pytest.raises(ValueError, match=problem):
        parse_table(str({"models": models}).replace("None", "null").replace("True", "true").replace("False", "false"))
