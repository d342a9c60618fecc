"""The Python file of each example with tools answers as the procedure declares, and can end each call in every way."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec, Tool
from subterra_cli.chat.tool_runners import tool_runner
from subterra_cli.files.lint_report import load_spec
from subterra_testkit.repository import ROOT

FILES = sorted((ROOT / "examples").glob("*/tools.py"))
TRIED: dict[str, tuple[str | int, ...]] = {
    "order_number": ("482193", "482199", "404404", "504504"),
    "patient_number": ("48211", "48217", "48219"),
    "amount": (88,),
    "reason": ("a check-up", "a filling"),
    "day": ("12 May", "13 May"),
    "time": ("9:00", "16:30"),
}
"""Values of parameters, by name."""


def results_of(file: Path, tool: Tool) -> Iterator[dict[str, Any]]:
    run = tool_runner(load_spec(file.parent / "procedure.yaml"), str(file), None)
    names = [parameter.name for parameter in tool.parameters]
    for values in product(*(TRIED[name] for name in names)):
        yield run(tool.name, dict(zip(names, values, strict=True)))


def outcomes(spec: ProcedureSpec, tool: Tool) -> set[str]:
    return next((set(variable.values) for variable in spec.variables if variable.name == tool.outcome), {"ok"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_tools_return_the_declared_results_and_end_in_every_declared_way(file: Path) -> None:
    spec = load_spec(file.parent / "procedure.yaml")
    for tool in spec.tools:
        found = [*results_of(file, tool)]
        assert {each.get("error", "ok") for each in found} == outcomes(spec, tool), tool.name
        assert all(set(each) == set(tool.results) for each in found if "error" not in each), tool.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_results_are_values_that_the_model_was_trained_with(file: Path) -> None:
    spec = load_spec(file.parent / "procedure.yaml")
    variables = {variable.name: variable for variable in spec.variables}
    for tool in spec.tools:
        for name, value in ((name, value) for each in results_of(file, tool) for name, value in each.items() if name != "error"):
            variable = variables[name]
            if variable.type == "integer":
                assert variable.minimum <= value <= variable.maximum
            else:
                assert value in variable.values
