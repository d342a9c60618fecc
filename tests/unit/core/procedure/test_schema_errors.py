"""What the schema refuses, in words with a cure."""

from typing import Any

import pytest
from pydantic import ValidationError

from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_core.procedure.schema_errors import findings_of


def told(spec: dict[str, Any]) -> list[str]:
    try:
        CompileRunSpec.model_validate({"inputs": {"procedureRef": {"name": "travel"}}} | spec)
    except ValidationError as error:
        return [str(finding) for finding in findings_of(error)]
    return []


def evaluation(**fields: Any) -> dict[str, Any]:
    return {"inputs": {"procedureRef": {"name": "travel"}, "evaluation": fields}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"execution": {"maxUSD": "-1"}}, "spec.execution.maxUSD: '-1' is no amount of US dollars; write a number in quotes"),
        ({"execution": {"gate": {"margin": 9}}}, "spec.execution.gate.margin: is the number 9; write a number not above 4"),
        ({"execution": {"gate": {"margin": 0}}}, "spec.execution.gate.margin: is the number 0; write a number above 0"),
        (evaluation(scenarios=2), "spec.inputs.evaluation.scenarios: is the number 2; write a number not below 10"),
        (evaluation(judge={"name": "anthropic"}), "spec.inputs.evaluation.judge: model is missing: every provider but scripted"),
        (evaluation(judge={"baseURL": "http://vllm/v1"}), "judge: baseURL is for the openai provider only; remove it"),
    ],
)
def test_a_value_that_is_refused_is_told_with_its_field_and_its_cure(spec: dict[str, Any], words: str) -> None:
    [finding] = told(spec)
    assert words in finding


def test_a_sound_spec_has_no_finding() -> None:
    assert told({}) == []
