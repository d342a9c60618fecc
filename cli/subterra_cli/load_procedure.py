"""Where commands get their procedures from: a file, standard input, or the cluster."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_cli.lint import STANDARD_INPUT, examined
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.schema_errors import findings_of


@dataclass(frozen=True)
class Source:
    """A procedure without errors."""

    name: str
    spec: ProcedureSpec
    analysis: Analysis


def is_file(text: str) -> bool:
    """Whether a command's argument means a file and not an object in the cluster."""
    return text == STANDARD_INPUT or "/" in text or Path(text).suffix in (".yaml", ".yml", ".json") or Path(text).exists()


def sound(file: str) -> Source:
    """The procedure in a file. Raises InvalidFileError with all its errors."""
    report = examined(file)
    if report.errors or report.spec is None or report.analysis is None:
        raise InvalidFileError("\n".join(report.lines(warnings=False)))
    return Source(report.name or Path(file).stem, report.spec, report.analysis)


def from_cluster(name: str, namespace: str, kubeconfig: str | None, context: str | None) -> Source:
    """A Procedure of the cluster. Raises ClusterError, or InvalidFileError when it has errors."""
    from subterra_cli.cluster import ClusterError, Reader, Target

    found = Reader(Target(namespace, kubeconfig, context)).get("procedures", name)
    if found is None:
        raise ClusterError(f"there is no Procedure {name} in namespace {namespace}, and no file of that name")
    try:
        spec = ProcedureSpec.model_validate(found["spec"])
    except ValidationError as error:
        raise InvalidFileError("\n".join(f"procedure {name}: {each}" for each in findings_of(error))) from None
    analysis = analyse(spec)
    if analysis.errors:
        raise InvalidFileError("\n".join(f"procedure {name}: {each}" for each in analysis.errors))
    return Source(name, spec, analysis)
