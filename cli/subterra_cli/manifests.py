"""Reads what is to be compiled from manifests: a Procedure, and the CompiledAgent or CompileRun that compiles it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError

from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileInputs, CompileRunSpec
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_cli.lint import Report, documents, examine, name_of, placed
from subterra_cli.yaml_document import Document, DocumentError
from subterra_core.pricing import PRICE_TABLE, TokenPrice
from subterra_core.procedure.schema_errors import findings_of

Spec = TypeVar("Spec", bound=ApiModel)
Placed = tuple[str, Document]
"""An object's file, and the object."""


@dataclass(frozen=True)
class Cap:
    """A cap on spending in dollars, and the field that sets it."""

    field: str
    usd: Decimal


@dataclass(frozen=True)
class Compile:
    """What the manifests ask for. ``references`` is how many finished models are played beside the candidate."""

    name: str
    procedure: ProcedureSpec
    inputs: CompileInputs
    references: int
    caps: tuple[Cap, ...]


def read(files: Sequence[str], *, recompile: bool) -> Compile:
    """The one compile in these files; ``recompile`` when an older version serves. Raises InvalidFileError."""
    found = [(file, each) for file in files for each in _objects(file)]
    makers = [each for each in found if each[1].data.get("kind") in ("CompiledAgent", "CompileRun")]
    if len(makers) != 1:
        told = f"hold {len(makers)} of them" if makers else "hold no CompiledAgent or CompileRun"
        cure = "name the files of one CompiledAgent or CompileRun and of its Procedure"
        raise InvalidFileError(f"{', '.join(files)}: {told}; {cure}")
    of = _of_run if makers[0][1].data["kind"] == "CompileRun" else _of_agent
    inputs, references, caps = of(makers[0], recompile)
    return Compile(name_of(makers[0][1]), _procedure(inputs.procedure_ref.name, found), inputs, references, caps)


def prices_in(file: str) -> dict[str, TokenPrice]:
    """Prices by model: the chart's `prices`, or values of the chart that have them. Raises InvalidFileError."""
    data: dict[str, Any] = next((each.data for each in _objects(file)), {})
    try:
        return {name: given.price() for name, given in PRICE_TABLE.validate_json(json.dumps(data.get("prices", data))).items()}
    except ValidationError as error:
        told = Report(file, tuple((1, each) for each in findings_of(error, "prices")))
        raise InvalidFileError("\n".join(told.lines())) from None


def _of_run(maker: Placed, recompile: bool) -> tuple[CompileInputs, int, tuple[Cap, ...]]:
    spec = _spec(CompileRunSpec, *maker)
    part = spec.execution
    return spec.inputs, max(len(spec.references), int(recompile)), _caps("spec.execution", part.max_usd, part.max_usd_per_30_days)


def _of_agent(maker: Placed, recompile: bool) -> tuple[CompileInputs, int, tuple[Cap, ...]]:
    spec = _spec(CompiledAgentSpec, *maker)
    if spec.compile is None:
        raise InvalidFileError(f"{maker[0]}: the agent serves a finished model, so nothing is compiled")
    template = spec.compile.template
    inputs = CompileInputs(
        procedure_ref=spec.compile.procedure_ref, base_model=template.base_model, generation=template.generation,
        training=template.training, evaluation=template.evaluation,
    )  # fmt: skip
    own = _caps("spec.budget", spec.budget.max_usd_per_run, spec.budget.max_usd_per_30_days, "maxUSDPerRun")
    template_caps = _caps("spec.compile.template.execution", template.execution.max_usd, template.execution.max_usd_per_30_days)
    return inputs, recompile * (1 + (spec.promotion.anchor is not None)), own or template_caps


def _caps(part: str, run: str | None, days: str | None, of_run: str = "maxUSD") -> tuple[Cap, ...]:
    named = ((of_run, run), ("maxUSDPer30Days", days))
    return tuple(Cap(f"{part}.{name}", Decimal(usd)) for name, usd in named if usd is not None)


def _procedure(name: str, found: Sequence[Placed]) -> ProcedureSpec:
    for file, document in found:
        if document.data.get("kind") == "Procedure" and name_of(document) == name:
            report = examine(file, document)
            if report.errors or report.spec is None:
                raise InvalidFileError("\n".join(report.lines(warnings=False)))
            return report.spec
    files = ", ".join(dict.fromkeys(file for file, _ in found))
    raise InvalidFileError(f"{files}: there is no Procedure {name}; name its file too")


def _objects(file: str) -> list[Document]:
    try:
        return [each for each in documents(file) if isinstance(each.data, dict)]
    except DocumentError as error:
        raise InvalidFileError("\n".join(Report(file, ((error.line, error.finding),)).lines())) from None


def _spec(kind: type[Spec], file: str, document: Document) -> Spec:
    try:
        return kind.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidFileError("\n".join(Report(file, placed(document, findings_of(error))).lines())) from None
