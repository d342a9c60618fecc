"""Loads procedures from a file, standard input or the cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_cli.files.lint_report import STANDARD_INPUT, check_file
from subterra_core.procedure.calls.called import Unavailable, gather
from subterra_core.procedure.calls.expansion import expand
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.schema_errors import findings_of

if TYPE_CHECKING:
    from subterra_cli.cluster import ClusterTarget


class Reader(Protocol):
    """Reads objects of the subterra.dev API group."""

    target: "ClusterTarget"

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        """The object, or `None` if it does not exist."""


@dataclass(frozen=True)
class LoadedProcedure:
    """A procedure without errors, with those that it calls in it; ``written`` is it as its author wrote it."""

    name: str
    spec: ProcedureSpec
    analysis: Analysis
    written: ProcedureSpec


def is_file(text: str) -> bool:
    """Whether a command's argument names a file, not an object in the cluster."""
    return text == STANDARD_INPUT or "/" in text or Path(text).suffix in (".yaml", ".yml", ".json") or Path(text).exists()


def from_file(file: str) -> LoadedProcedure:
    """The procedure in a file. Raises InvalidFileError with all errors."""
    report = check_file(file)
    if report.errors or report.spec is None or report.analysis is None or report.written is None:
        raise InvalidFileError("\n".join(report.lines(warnings=False)))
    return LoadedProcedure(report.name or Path(file).stem, report.spec, report.analysis, report.written)


def from_cluster(name: str, target: "ClusterTarget") -> LoadedProcedure:
    """A Procedure in the cluster. Raises ClusterAccessError, or InvalidFileError when it has errors."""
    from subterra_cli.cluster import ClusterAccessError, ResourceReader

    reader = ResourceReader(target)
    resource = reader.get("procedures", name)
    if resource is None:
        raise ClusterAccessError(f"Procedure {name} not found in namespace {target.namespace}, and there is no file {name}")
    try:
        spec = ProcedureSpec.model_validate(resource["spec"])
    except ValidationError as error:
        raise InvalidFileError("\n".join(f"procedure {name}: {finding}" for finding in findings_of(error))) from None
    expansion = expand(name, spec, gather(spec, lambda called: called_in_cluster(reader, called)))
    analysis = expansion.analyse()
    if analysis.errors:
        raise InvalidFileError("\n".join(f"procedure {name}: {finding}" for finding in analysis.errors))
    return LoadedProcedure(name, expansion.spec, analysis, spec)


def called_in_cluster(reader: "Reader", name: str) -> ProcedureSpec | Unavailable:
    """A called Procedure in the cluster. Raises ClusterAccessError."""
    resource = reader.get("procedures", name)
    if resource is None:
        problem = f"does not exist in namespace {reader.target.namespace}"
        return Unavailable(problem, "create it, or correct the name", is_missing=True)
    try:
        return ProcedureSpec.model_validate(resource["spec"])
    except ValidationError as error:
        return Unavailable(f"has errors itself: {next(findings_of(error))}", "correct them there")
