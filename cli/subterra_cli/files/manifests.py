"""Reads a compile request from manifests: a Procedure, and the CompiledAgent or CompileRun that compiles it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError

from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileInputs, CompileRunSpec, ExecutionSettings, GatePolicy
from subterra_api.v1alpha1.judging import CALL_BY_CALL, JudgingSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.stage_pods import TrainingPod
from subterra_cli.errors import InvalidFileError
from subterra_cli.files.called_files import called_in_files
from subterra_cli.files.lint_report import LintReport, check_document, object_name, read_documents, with_lines
from subterra_cli.files.yaml_document import Document, DocumentError
from subterra_core.node_pools import POOLS, NodePool
from subterra_core.pricing import PRICE_TABLE, TokenPrice
from subterra_core.procedure.lint.findings import did_you_mean
from subterra_core.procedure.schema_errors import findings_of
from subterra_core.provider_rules import SCRIPTED

Spec = TypeVar("Spec", bound=ApiModel)
FileObject = tuple[str, Document]
"""The file that contains an object, and the object."""


@dataclass(frozen=True)
class SpendingCap:
    """A cap on spending in dollars, and the field that sets it."""

    field: str
    usd: Decimal


@dataclass(frozen=True)
class CompileRequest:
    """What the manifests ask for. ``references``: number of finished models evaluated with the candidate."""

    name: str
    procedure: ProcedureSpec
    inputs: CompileInputs
    references: int
    caps: tuple[SpendingCap, ...]
    train: TrainingPod
    """The pod that trains."""
    judging: JudgingSettings = CALL_BY_CALL
    gate: GatePolicy = field(default_factory=GatePolicy)


def read_compile(files: Sequence[str], *, recompile: bool) -> CompileRequest:
    """The compile request in ``files``; ``recompile`` if an older version is served. Raises InvalidFileError."""
    objects = [(file, document) for file in files for document in _objects(file)]
    makers = [(file, document) for file, document in objects if document.data.get("kind") in ("CompiledAgent", "CompileRun")]
    if len(makers) != 1:
        found = f"{len(makers)} CompiledAgents or CompileRuns" if makers else "no CompiledAgent or CompileRun"
        problem = f"{'contains' if len(files) == 1 else 'contain'} {found}"
        fix = "pass the files of one CompiledAgent or CompileRun and of its Procedure"
        raise InvalidFileError(f"{', '.join(files)}: {problem}; {fix}")
    request = _run_request if makers[0][1].data["kind"] == "CompileRun" else _agent_request
    inputs, references, caps, execution = request(makers[0], recompile)
    scripted = inputs.generation.teacher.name == SCRIPTED
    procedure = _named_procedure(inputs.procedure_ref.name, objects, scripted=scripted)
    judging = execution.judging or CALL_BY_CALL
    name = object_name(makers[0][1])
    return CompileRequest(name, procedure, inputs, references, caps, execution.train, judging, execution.gate)


def read_prices(file: str) -> dict[str, TokenPrice]:
    """Prices by model, from the chart's `prices` or from chart values that contain them. Raises InvalidFileError."""
    data: dict[str, Any] = next((document.data for document in _objects(file)), {})
    try:
        table = PRICE_TABLE.validate_json(json.dumps(data.get("prices", data)))
        return {model: price.to_token_price() for model, price in table.items()}
    except ValidationError as error:
        report = LintReport(file, tuple((1, finding) for finding in findings_of(error, "prices")))
        raise InvalidFileError("\n".join(report.lines())) from None


def read_pools(file: str) -> dict[str, NodePool]:
    """Node pools by name, from the chart's values. Raises InvalidFileError."""
    data: dict[str, Any] = next((document.data for document in _objects(file)), {})
    if "pools" not in data:
        raise InvalidFileError(f"{file}: there are no pools in it; pass a file with values of the chart that has them")
    try:
        return POOLS.validate_json(json.dumps(data["pools"]))
    except ValidationError as error:
        report = LintReport(file, tuple((1, finding) for finding in findings_of(error, "pools")))
        raise InvalidFileError("\n".join(report.lines())) from None


def _run_request(maker: FileObject, recompile: bool) -> tuple[CompileInputs, int, tuple[SpendingCap, ...], ExecutionSettings]:
    spec = _spec(CompileRunSpec, *maker)
    caps = _caps("spec.execution", spec.execution.max_usd, spec.execution.max_usd_per_30_days)
    return spec.inputs, max(len(spec.references), int(recompile)), caps, spec.execution


def _agent_request(maker: FileObject, recompile: bool) -> tuple[CompileInputs, int, tuple[SpendingCap, ...], ExecutionSettings]:
    spec = _spec(CompiledAgentSpec, *maker)
    if spec.compile is None:
        raise InvalidFileError(f"{maker[0]}: the agent serves a finished model, so there is nothing to compile")
    template, inputs = spec.compile.template, agent_inputs(spec)
    assert inputs is not None
    own = _caps("spec.budget", spec.budget.max_usd_per_run, spec.budget.max_usd_per_30_days, "maxUSDPerRun")
    template_caps = _caps("spec.compile.template.execution", template.execution.max_usd, template.execution.max_usd_per_30_days)
    references = recompile * (1 + (spec.promotion.anchor is not None))
    execution = template.execution.model_copy(update={"gate": spec.promotion.gate})
    return inputs, references, own or template_caps, execution


def agent_inputs(spec: CompiledAgentSpec) -> CompileInputs | None:
    """What an agent compiles; `None` if it serves a finished model."""
    if spec.compile is None:
        return None
    template = spec.compile.template
    return CompileInputs(
        procedure_ref=spec.compile.procedure_ref,
        base_model=template.base_model,
        generation=template.generation,
        training=template.training,
        evaluation=template.evaluation,
    )


def _caps(part: str, run: str | None, days: str | None, of_run: str = "maxUSD") -> tuple[SpendingCap, ...]:
    named = ((of_run, run), ("maxUSDPer30Days", days))
    return tuple(SpendingCap(f"{part}.{name}", Decimal(usd)) for name, usd in named if usd is not None)


def _named_procedure(name: str, objects: Sequence[FileObject], *, scripted: bool) -> ProcedureSpec:
    for file, document in objects:
        if document.data.get("kind") == "Procedure" and object_name(document) == name:
            report = check_document(file, document, called_in_files(file, objects), scripted=scripted)
            if report.errors or report.spec is None:
                raise InvalidFileError("\n".join(report.lines(warnings=False)))
            return report.spec
    files = ", ".join(dict.fromkeys(file for file, _ in objects))
    known = [object_name(document) for _, document in objects if document.data.get("kind") == "Procedure"]
    raise InvalidFileError(f"{files}: Procedure {name} not found; {did_you_mean(name, known, 'pass its file too')}")


def _objects(file: str) -> list[Document]:
    try:
        return [document for document in read_documents(file) if isinstance(document.data, dict)]
    except DocumentError as error:
        raise InvalidFileError("\n".join(LintReport(file, ((error.line, error.finding),)).lines())) from None


def _spec(kind: type[Spec], file: str, document: Document) -> Spec:
    try:
        return kind.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidFileError("\n".join(LintReport(file, with_lines(document, findings_of(error))).lines())) from None
