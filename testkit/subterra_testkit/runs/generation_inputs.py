"""Run inputs for tests of the generate stage, with good defaults."""

from functools import cache
from pathlib import Path
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity, RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.yaml_reader import read_yaml

PAID = {"name": "anthropic", "model": "claude-sonnet-4-6"}
TRAVEL_1 = RunIdentity(name="travel-1", namespace="default", uid="uid-1", agent="travel")


@cache
def example(name: str) -> ProcedureSpec:
    """The procedure of an example."""
    return ProcedureSpec.model_validate(read_yaml((EXAMPLES / name / "procedure.yaml").read_text())["spec"])


def travel() -> ProcedureSpec:
    """The travel example without a style: what tests say of plans and prompts holds for procedures that set none."""
    return example("travel").model_copy(update={"style": None})


def run_input(store: Path, procedure: ProcedureSpec | None = None, **generation: Any) -> RunInput:
    """A run over ``procedure`` with its artifacts under ``store``; ``generation`` as in a CompileRun."""
    spec = procedure or travel()
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "generation": {"conversations": 20} | generation})
    return resolve(inputs, spec, procedure_digest(spec), TRAVEL_1, store=store.as_uri())
