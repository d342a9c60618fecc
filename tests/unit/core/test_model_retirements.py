"""Models that have retired are refused, models that will are warned about; a model behind an own endpoint is neither."""

from datetime import date
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_core.model_retirements import lifetimes, retired_models, retirement_of, retirements_in, retiring_models

SONNET = {"name": "anthropic", "model": "claude-sonnet-4-5"}
GPT = {"name": "openai", "model": "gpt-4.1-2025-04-14"}
BEFORE, BETWEEN, AFTER = date(2026, 11, 20), date(2026, 12, 1), date(2027, 2, 1)


def inputs(**evaluation: Any) -> CompileInputs:
    judges = {"simulator": SONNET, "judge": SONNET, "secondJudge": GPT} | evaluation
    made = {"procedureRef": {"name": "travel"}, "generation": {"teacher": SONNET}, "evaluation": judges}
    return CompileInputs.model_validate(made)


SONNET_FIELDS = "generation.teacher.model and evaluation.simulator.model and evaluation.judge.model"


def test_each_model_is_named_once_with_its_fields_date_and_replacement() -> None:
    assert retiring_models(inputs(), BEFORE) == (
        f"{SONNET_FIELDS}: claude-sonnet-4-5 retires on 2026-11-30; use claude-sonnet-5-5",
        "evaluation.secondJudge.model: gpt-4.1 retires on 2027-01-14; use gpt-6-luna",
    )
    assert retired_models(inputs(), BEFORE) == ()


def test_a_retired_model_is_refused_and_not_warned_about() -> None:
    assert retired_models(inputs(), BETWEEN) == (
        f"{SONNET_FIELDS}: claude-sonnet-4-5 retired on 2026-11-30; use claude-sonnet-5-5",
    )
    assert len(retiring_models(inputs(), BETWEEN)) == 1
    assert (len(retired_models(inputs(), AFTER)), retiring_models(inputs(), AFTER)) == (2, ())


def test_the_end_of_every_other_model_is_told_once_as_far_as_it_is_known() -> None:
    current = {"name": "anthropic", "model": "claude-sonnet-5-5"}
    later = {"name": "openai", "model": "gpt-5.1"}
    own = {"name": "openai", "model": "gpt-4.1", "baseURL": "http://vllm/v1"}
    baselines = [{"kind": "InContext", "provider": each} for each in (later, own)]
    made = inputs(simulator=current, judge=current, secondJudge={"name": "openai", "model": "gpt-6-luna"}, baselines=baselines)
    assert lifetimes(made, BEFORE) == (
        "claude-sonnet-5-5 retires on 2027-09-28 at the earliest (page of 2026-11-28)",
        "gpt-6-luna: no retirement is announced (page of 2026-11-28)",
        "gpt-5.1 retires on 2027-04-01; use gpt-6.1-sol (page of 2026-11-28)",
    ), "the teacher's end is soon, and a warning has it"


def test_baselines_count() -> None:
    made = inputs(baselines=[{"kind": "InContext", "provider": {"name": "openai", "model": "o4-mini"}}])
    [found] = [each for each in retirements_in(made, BEFORE) if each.retirement.model == "o4-mini"]
    assert found.fields == ("evaluation.baselines[0].provider.model",)


@pytest.mark.parametrize(
    "provider",
    [
        {"name": "openai", "model": "gpt-4.1", "baseURL": "https://gateway.example/v1"},
        {"name": "openai", "model": "qwen3"},
        {"name": "openai", "model": "gpt-6-luna"},
        {"name": "openai", "model": "claude-sonnet-4-5"},
        {"name": "scripted"},
    ],
    ids=["a gateway has dates of its own", "unknown", "no date is announced", "another provider's name", "scripted"],
)
def test_nothing_is_said_of_models_without_a_date_at_their_own_provider(provider: dict[str, str]) -> None:
    assert retirement_of(Provider.model_validate(provider), AFTER) is None
