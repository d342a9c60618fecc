"""Schema errors are explained with their fix."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.schema_errors import findings_of


def reported(spec: dict[str, Any]) -> list[str]:
    try:
        CompileRunSpec.model_validate({"inputs": {"procedureRef": {"name": "travel"}}} | spec)
    except ValidationError as error:
        return [str(finding) for finding in findings_of(error)]
    return []


PROCEDURE = """
systemPrompt: Help.
start: hello
nodes:
- {id: hello, role: agent, prompt: Hello., next: [{to: ask}]}
- {id: ask, role: user, next: [{to: bye, when: The customer agrees.}]}
- {id: bye, role: agent, prompt: Bye., outcome: success}
variables:
- {name: plan, values: [Free]}
"""


def evaluation(**fields: Any) -> dict[str, Any]:
    return {"inputs": {"procedureRef": {"name": "travel"}, "evaluation": fields}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"execution": {"maxUSD": "-1"}}, "spec.execution.maxUSD: '-1' is not an amount in US dollars; write a number in quotes"),
        ({"execution": {"gate": {"margin": 9}}}, "spec.execution.gate.margin: is the number 9; write a number not above 4"),
        ({"execution": {"gate": {"margin": 0}}}, "spec.execution.gate.margin: is the number 0; write a number above 0"),
        (evaluation(scenarios=2), "spec.inputs.evaluation.scenarios: is the number 2; write a number not below 10"),
        (evaluation(judge={"name": "anthropic"}), "spec.inputs.evaluation.judge: model is missing; every provider except scripted"),
        (evaluation(judge={"baseURL": "http://vllm/v1"}), "judge: baseURL is for the openai provider only; remove it"),
    ],
)
def test_a_rejected_value_is_reported_with_its_field_and_its_fix(spec: dict[str, Any], words: str) -> None:
    [finding] = reported(spec)
    assert words in finding


def test_a_valid_spec_has_no_finding() -> None:
    assert reported({}) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("user", "costumer", "spec.nodes[1].role: is the string 'costumer'; write agent, customer, user, tool, call or collect"),
        ("when", "if", "spec.nodes[1].next[0].if: there is no such field; did you mean when?"),
        ("prompt", "promt", "spec.nodes[0].promt: there is no such field; did you mean prompt?"),
        ("plan", "plan, text: b", "spec.variables[0].text: there is no such field; remove it"),
    ],
)
def test_a_slip_is_reported_with_what_the_object_takes_instead(old: str, new: str, words: str) -> None:
    written = PROCEDURE.replace(old, new, 1)
    with pytest.raises(ValidationError) as caught:
        ProcedureSpec.model_validate(yaml.safe_load(written))
    assert [str(finding) for finding in findings_of(caught.value)] == [words]
