"""Who may write, play and judge together, and which models a stage calls."""

from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_core.provider_rules import model_family, provider_conflicts, providers_called_by

CLAUDE = {"name": "anthropic", "model": "claude-sonnet-4-6"}
GPT = {"name": "openai", "model": "gpt-4.1"}
QWEN = {"name": "openai", "model": "Qwen/Qwen3-32B", "baseURL": "http://models:8000/v1"}
SCRIPTED = {"name": "scripted"}


def inputs(teacher: Any = CLAUDE, simulator: Any = CLAUDE, judge: Any = CLAUDE, second: Any = GPT, **more: Any) -> CompileInputs:
    evaluation = {"simulator": simulator, "judge": judge, "secondJudge": second, **more}
    return CompileInputs.model_validate(
        {"procedureRef": {"name": "travel"}, "generation": {"teacher": teacher}, "evaluation": evaluation}
    )


@pytest.mark.parametrize(
    "fine",
    [
        CompileInputs.model_validate({"procedureRef": {"name": "travel"}}),
        inputs(),
        inputs(simulator=SCRIPTED),
        inputs(teacher=SCRIPTED),
        inputs(baselines=[{"kind": "InContext", "provider": CLAUDE}, {"kind": "Orchestrator", "provider": QWEN}]),
    ],
)
def test_a_valid_combination_has_no_conflict(fine: CompileInputs) -> None:
    assert provider_conflicts(fine) == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            inputs(judge=SCRIPTED, second=None, simulator=SCRIPTED),
            "only a scripted teacher's phrasings; name two models",
        ),
        (inputs(teacher=SCRIPTED, judge=SCRIPTED, second=None), "requires the scripted simulator"),
        (inputs(teacher=SCRIPTED, simulator=SCRIPTED, judge=SCRIPTED), "the scripted judge takes no second judge"),
        (inputs(second=None), "a single model as judge is not enough; name another model"),
        (inputs(second=SCRIPTED), "a single model as judge is not enough; name another model"),
        (inputs(judge=GPT), "it is the same as evaluation.judge"),
        (inputs(second={**CLAUDE, "model": "claude-opus-4-6"}), "from the families of teacher and simulator (anthropic)"),
        (inputs(simulator=GPT), "from the families of teacher and simulator (anthropic and gpt)"),
        (inputs(simulator=SCRIPTED, baselines=[{"kind": "InContext", "provider": CLAUDE}]), "ignores what models say"),
        (
            inputs(baselines=[{"kind": "Orchestrator", "provider": SCRIPTED}]),
            "baselines[0].provider: a baseline cannot be",
        ),
    ],
)
def test_a_conflict_is_reported_with_its_field_and_fix(settings: CompileInputs, words: str) -> None:
    [conflict] = provider_conflicts(settings)
    assert conflict.startswith("evaluation.")
    assert words in conflict


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1", "gpt"),
        ("o3-mini", "gpt"),
        ("Qwen/Qwen3-32B", "qwen"),
        ("meta-llama/Llama-3", "llama"),
        ("claude-x", "anthropic"),
        ("7b", "7b"),
    ],
)
def test_a_family_is_the_name_that_models_share(model: str, expected: str) -> None:
    assert model_family(Provider.model_validate({"name": "openai", "model": model})) == expected


def test_a_stage_calls_its_own_models_only() -> None:
    asked = inputs(baselines=[{"kind": "Orchestrator", "provider": QWEN}])
    assert [field for field, _ in providers_called_by(asked, "generate")] == ["generation.teacher"]
    assert providers_called_by(asked, "train") == ()
    assert [field for field, _ in providers_called_by(asked, "evaluate")] == [
        "evaluation.simulator",
        "evaluation.judge",
        "evaluation.secondJudge",
        "evaluation.baselines[0].provider",
    ]
    assert providers_called_by(CompileInputs.model_validate({"procedureRef": {"name": "travel"}}), "evaluate") == ()
