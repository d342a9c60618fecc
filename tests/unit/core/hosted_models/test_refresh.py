"""What providers list updates the table, and nothing that they do not list is invented."""

from datetime import date

from subterra_core.hosted_models.catalog import HostedModel, dump_table, hosted_models, model_named, parse_table
from subterra_core.hosted_models.refresh import ListedModel, Refreshed, refresh

TODAY = date(2026, 11, 28)


def refreshed(*listed: ListedModel, today: date = TODAY, models: tuple[str, ...] = ("gpt-4.1", "gpt-6-luna")) -> Refreshed:
    known = [model for name in models if (model := model_named(name))]
    return refresh(known, listed, today)


def first(result: Refreshed) -> HostedModel:
    return result.models[0]


def test_a_shutdown_date_makes_a_model_deprecated_and_then_retired() -> None:
    luna = ListedModel("gpt-6-luna", "openai", retires_on=date(2027, 9, 1))
    result = refreshed(luna, models=("gpt-6-luna",))
    assert (first(result).state, first(result).retires_on) == ("deprecated", date(2027, 9, 1))
    assert result.changes == ("gpt-6-luna: state was active, is deprecated", "gpt-6-luna: retiresOn was none, is 2027-09-01")
    assert first(refreshed(luna, today=date(2027, 9, 1), models=("gpt-6-luna",))).state == "retired"


def test_a_withdrawn_shutdown_makes_a_model_active_again() -> None:
    result = refreshed(ListedModel("gpt-4.1", "openai"), ListedModel("gpt-6-luna", "openai"))
    assert (first(result).state, first(result).retires_on, first(result).replacement) == ("active", None, "gpt-6-luna")


def test_prices_notes_and_sources_stay() -> None:
    result = refreshed(
        ListedModel("claude-sonnet-5-5", "anthropic", "deprecated", date(2027, 12, 1)), models=("claude-sonnet-5-5",)
    )
    before, after = model_named("claude-sonnet-5-5"), first(result)
    assert before is not None
    kept = ("usd_per_million", "note", "source", "checked", "batch_factor", "tokens_per_word", "minimum_cached_tokens", "thinking")
    assert [getattr(before, name) for name in kept] == [getattr(after, name) for name in kept]


def test_limits_and_efforts_are_those_that_are_listed() -> None:
    listed = ListedModel("claude-sonnet-5-5", "anthropic", "active", None, 2_000_000, 256_000, ("low", "high"), "disabled")
    result = refreshed(listed, models=("claude-sonnet-5-5",))
    after = first(result)
    assert (after.context, after.output_limit, after.efforts, after.thinking.off_type) == (
        2_000_000,
        256_000,
        ("low", "high"),
        "disabled",
    )
    assert "thinking was low/medium/high/xhigh/max with between_tools, is low/high with disabled" in result.changes[-1]


def test_a_model_is_found_by_its_dated_name() -> None:
    result = refreshed(
        ListedModel("claude-haiku-4-5-20251001", "anthropic", "deprecated", date(2027, 3, 1)), models=("claude-haiku-4-5",)
    )
    assert (first(result).retires_on, result.unpriced) == (date(2027, 3, 1), ())


def test_a_new_model_is_named_and_gets_no_invented_price() -> None:
    result = refreshed(ListedModel("gpt-7-luna", "openai"), ListedModel("gpt-6-luna", "openai"), models=("gpt-6-luna",))
    assert (result.unpriced, [model.name for model in result.models]) == (("gpt-7-luna",), ["gpt-6-luna"])


def test_a_model_that_is_not_listed_any_more_is_left_to_a_person() -> None:
    result = refreshed(ListedModel("gpt-6-luna", "openai"))
    assert (result.missing, result.changes, first(result)) == (("gpt-4.1",), (), model_named("gpt-4.1"))


def test_a_provider_without_a_list_changes_nothing() -> None:
    result = refresh(hosted_models(), [ListedModel("gpt-6-luna", "openai")], TODAY)
    assert all("claude" not in line for line in (*result.changes, *result.missing))


def test_a_refreshed_table_can_be_read_again() -> None:
    result = refresh(hosted_models(), [ListedModel("gpt-6-luna", "openai", retires_on=date(2027, 9, 1))], TODAY)
    assert parse_table(dump_table(result.models)) == result.models
