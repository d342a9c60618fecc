"""Who may write, play and judge together, and which models a stage calls."""

from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_core.provider_rules import called, family, refusals

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
def test_what_fits_is_not_refused(fine: CompileInputs) -> None:
    assert refusals(fine) == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (inputs(judge=SCRIPTED, second=None, simulator=SCRIPTED), "reads only a scripted teacher's words; name two models"),
        (inputs(teacher=SCRIPTED, judge=SCRIPTED, second=None), "needs the scripted simulator"),
        (inputs(teacher=SCRIPTED, simulator=SCRIPTED, judge=SCRIPTED), "beside the scripted judge there is no other"),
        (inputs(second=None), "one model's opinion is not enough; name another model"),
        (inputs(second=SCRIPTED), "one model's opinion is not enough; name another model"),
        (inputs(judge=GPT), "it is the first judge once more"),
        (inputs(second={**CLAUDE, "model": "claude-opus-4-6"}), "of the families of teacher and simulator (anthropic)"),
        (inputs(simulator=GPT), "of the families of teacher and simulator (anthropic and gpt)"),
        (inputs(simulator=SCRIPTED, baselines=[{"kind": "InContext", "provider": CLAUDE}]), "does not hear what they say"),
        (inputs(baselines=[{"kind": "Orchestrator", "provider": SCRIPTED}]), "baselines[0].provider: a baseline is a model"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field_and_the_cure(settings: CompileInputs, words: str) -> None:
    [told] = refusals(settings)
    assert told.startswith("evaluation.")
    assert words in told


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gpt-4.1", "gpt"), ("o3-mini", "gpt"), ("Qwen/Qwen3-32B", "qwen"), ("meta-llama/Llama-3", "llama"), ("claude-x", "anthropic"),
     ("7b", "7b")],
)  # fmt: skip
def test_a_family_is_the_name_that_models_share(model: str, expected: str) -> None:
    assert family(Provider.model_validate({"name": "openai", "model": model})) == expected


def test_a_stage_calls_its_own_models_only() -> None:
    asked = inputs(baselines=[{"kind": "Orchestrator", "provider": QWEN}])
    assert [field for field, _ in called(asked, "generate")] == ["generation.teacher"]
    assert called(asked, "train") == ()
    assert [field for field, _ in called(asked, "evaluate")] == [
        "evaluation.simulator", "evaluation.judge", "evaluation.secondJudge", "evaluation.baselines[0].provider",
    ]  # fmt: skip
    assert called(CompileInputs.model_validate({"procedureRef": {"name": "travel"}}), "evaluate") == ()
