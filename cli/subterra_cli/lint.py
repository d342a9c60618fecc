"""Examines a procedure's file: every finding with its line, its field and its cure, whatever the file holds."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_cli.import_langgraph import gaps
from subterra_cli.yaml_document import MAX_BYTES, Document, DocumentError, decode, parse
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Analysis, Finding
from subterra_core.procedure.schema_errors import findings_of

STANDARD_INPUT = "-"
_TOLD = 50
"""So many findings are told; who has more mends these first."""
_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True)
class Report:
    """What is wrong with a file, in the order of its lines. Spec and analysis are there when the schema accepts it."""

    file: str
    findings: tuple[tuple[int, Finding], ...]
    name: str = ""
    spec: ProcedureSpec | None = None
    analysis: Analysis | None = None

    @property
    def errors(self) -> int:
        return sum(1 for _, finding in self.findings if finding.severity == "error")

    def lines(self, *, warnings: bool = True) -> Iterator[str]:
        """``FILE:LINE: error: edge a → b: problem; cure [field]`` for each finding."""
        chosen = [each for each in self.findings if warnings or each[1].severity == "error"]
        for line, finding in chosen[:_TOLD]:
            place = f" [{finding.field}]" if finding.field not in ("", finding.where) else ""
            yield f"{self.file}:{line}: {finding.severity}: {finding}{place}"
        if len(chosen) > _TOLD:
            yield f"{self.file}: and {len(chosen) - _TOLD:,} more; mend these first"

    def data(self) -> dict[str, Any]:
        """The report for scripts."""
        return {
            "file": self.file,
            "errors": self.errors,
            "findings": [{"line": line, **asdict(each)} for line, each in self.findings],
        }


def load(file: Path) -> ProcedureSpec:
    """The procedure in a file that the schema accepts. Raises InvalidFileError."""
    report = examined(str(file))
    if report.spec is None:
        raise InvalidFileError("\n".join(report.lines()))
    return report.spec


def examined(file: str) -> Report:
    """What there is to say about a file."""
    try:
        found = _procedure(documents(file))
    except DocumentError as error:
        return Report(file, ((error.line, error.finding),))
    return examine(file, found)


def documents(file: str) -> list[Document]:
    """All that a file holds. Raises DocumentError."""
    return parse(decode(_content(file)))


def _content(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == STANDARD_INPUT else Path(file).open("rb") as stream:
            return stream.read(64 * MAX_BYTES)
    except OSError as error:
        raise DocumentError(1, f"cannot be read: {error.strerror}", "name a file that exists and that you may read") from None


def _procedure(documents: list[Document]) -> Document:
    """The one Procedure among a file's documents."""
    found = [each for each in documents if isinstance(each.data, dict) and each.data.get("kind") == "Procedure"]
    cure = f"it should begin with apiVersion: {API_VERSION} and kind: Procedure"
    if not found:
        kinds = [each.data.get("kind") for each in documents if isinstance(each.data, dict) and each.data.get("kind")]
        problem = f"is no Procedure but a {kinds[0]}" if kinds else "is no Procedure"
        raise DocumentError(documents[0].line("kind") if documents else 1, problem, cure, "kind")
    if len(found) > 1:
        raise DocumentError(found[1].line("kind"), f"holds {len(found)} procedures", "give each a file of its own", "kind")
    if found[0].data.get("apiVersion") != API_VERSION:
        problem = f"has the apiVersion {found[0].data.get('apiVersion')!r}"
        raise DocumentError(found[0].line("apiVersion"), problem, f"write apiVersion: {API_VERSION}", "apiVersion")
    for name in found[0].data:
        if name not in _FIELDS:
            raise DocumentError(
                found[0].line(name), "there is no such field", "did you mean spec, or is it indented too little?", name
            )
    return found[0]


def name_of(document: Document) -> str:
    """An object's name; empty when it has none."""
    metadata = document.data.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def examine(file: str, document: Document) -> Report:
    """What there is to say about a Procedure."""
    name = name_of(document)
    try:
        # JSON is what the API server sees: there a number is no text, and fields have their wire names only.
        spec = ProcedureSpec.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return Report(file, placed(document, findings_of(error)), name)
    analysis = analyse(spec)
    return Report(file, placed(document, [*analysis.findings, *_gaps(document)]), name, spec, analysis)


def _gaps(document: Document) -> Iterator[Finding]:
    for field in gaps(document.data):
        yield Finding("warning", field, field, "is a gap that the import left", "write what it asks for")


def placed(document: Document, findings: Iterable[Finding]) -> tuple[tuple[int, Finding], ...]:
    """Findings with their lines, in order."""
    return tuple(sorted(((document.line(each.field), each) for each in findings), key=lambda pair: pair[0]))
