"""A stage refuses a retired model before its first call, by the date that it is given."""

from datetime import date

import pytest

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.pricing import parse_prices
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.llm.account import resolve_account
from subterra_jobs.stage.environment import StageEnvironment

SONNET = Provider.model_validate({"name": "anthropic", "model": "claude-sonnet-4-5-20250929"})


def environment(today: date, **more: object) -> StageEnvironment:
    return StageEnvironment(keys={"anthropic": "sk", "openai": "sk"}, today=today, **more)  # type: ignore[arg-type]


def test_a_model_is_called_until_the_day_of_its_retirement() -> None:
    assert resolve_account(SONNET, "generation.teacher", environment(date(2026, 11, 29))).model == SONNET.model
    with pytest.raises(InvalidInputError) as refused:
        resolve_account(SONNET, "generation.teacher", environment(date(2026, 11, 30)))
    assert str(refused.value) == "generation.teacher.model: claude-sonnet-4-5 retired on 2026-11-30; use claude-sonnet-5-5"


def test_a_price_of_the_administrator_does_not_revive_a_model() -> None:
    prices = parse_prices('{"claude-sonnet-4-5-20250929": {"input": "1", "output": "1"}}')
    with pytest.raises(InvalidInputError, match="retired on"):
        resolve_account(SONNET, "generation.teacher", environment(date(2026, 12, 1), prices=prices))


def test_a_gateway_may_still_serve_what_its_maker_has_retired() -> None:
    own = Provider.model_validate({"name": "openai", "model": "gpt-4.1", "baseURL": "https://gateway.example/v1"})
    allowed = environment(date(2028, 1, 1), endpoints=("https://gateway.example/v1",))
    assert resolve_account(own, "evaluation.judge", allowed).base_url == "https://gateway.example/v1"


def test_a_stage_asks_for_the_day_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_jobs.stage.environment.current_date", lambda: date(2027, 5, 1))
    assert StageEnvironment.parse({}).today == date(2027, 5, 1)
