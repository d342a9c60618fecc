"""Checks a procedure's file: every finding with its line, field and fix, whatever the file contains."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_cli.files.called_files import Find, called_in_files
from subterra_cli.files.yaml_document import MAX_BYTES, Document, DocumentError, decode, parse
from subterra_core.procedure.calls.called import gather
from subterra_core.procedure.calls.expansion import expand
from subterra_core.procedure.lint.findings import Analysis, Finding, did_you_mean
from subterra_core.procedure.lint.unspoken import check_examples
from subterra_core.procedure.schema_errors import findings_of, not_a_string

STANDARD_INPUT = "-"
_MAX_REPORTED = 50
"""Findings to print; a longer list helps nobody."""
_READ_AS = re.compile(r"is (the number )?(\S+), not a string")
_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True)
class LintReport:
    """The findings in a file, in the order of its lines. ``spec`` and ``analysis`` are set when the schema accepts it.

    ``spec`` has called procedures in it, unless the calls have errors; ``written`` is the procedure as it is in the file.
    """

    file: str
    findings: tuple[tuple[int, Finding], ...]
    name: str = ""
    spec: ProcedureSpec | None = None
    analysis: Analysis | None = None
    written: ProcedureSpec | None = None

    @property
    def errors(self) -> int:
        return sum(1 for _, finding in self.findings if finding.severity == "error")

    def with_findings(self, more: tuple[tuple[int, Finding], ...]) -> "LintReport":
        """The report with others in front of its own."""
        return replace(self, findings=(*more, *self.findings))

    def lines(self, *, warnings: bool = True) -> Iterator[str]:
        """``FILE:LINE: error: edge a → b: problem; fix [field]`` for each finding."""
        chosen = [located for located in self.findings if warnings or located[1].severity == "error"]
        for line, finding in chosen[:_MAX_REPORTED]:
            field = f" [{finding.field}]" if finding.field not in ("", finding.where) else ""
            yield f"{self.file}:{line}: {finding.severity}: {finding}{field}"
        if len(chosen) > _MAX_REPORTED:
            yield f"{self.file}: and {len(chosen) - _MAX_REPORTED:,} more; fix these first"

    def data(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "file": self.file,
            "errors": self.errors,
            "findings": [_finding_data(line, finding) for line, finding in self.findings],
        }


def _finding_data(line: int, finding: Finding) -> dict[str, Any]:
    data = asdict(finding)
    data["cure"] = data.pop("fix")  # the key that scripts read
    return {"line": line, **data}


def load_spec(file: Path) -> ProcedureSpec:
    """The procedure in a file that the schema accepts, with those that it calls. Raises InvalidFileError."""
    report = check_file(str(file))
    if report.spec is None or any(node.role in ("call", "collect") for node in report.spec.nodes):
        raise InvalidFileError("\n".join(report.lines()))
    return report.spec


def check_file(file: str, documents: list[Document] | None = None) -> LintReport:
    """The report on a file with one Procedure; `documents` if it has been read."""
    try:
        document = _one_procedure(read_documents(file) if documents is None else documents)
    except DocumentError as error:
        return LintReport(file, ((error.line, error.finding),))
    return check_document(file, document, called_in_files(file))


def read_documents(file: str) -> list[Document]:
    """The YAML documents in a file. Raises DocumentError."""
    return parse(decode(_content(file)))


def _content(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == STANDARD_INPUT else Path(file).open("rb") as stream:
            return stream.read(64 * MAX_BYTES)
    except OSError as error:
        fix = "name a file in it" if isinstance(error, IsADirectoryError) else "check the path and its permissions"
        raise DocumentError(1, f"cannot be read: {error.strerror}", fix) from None


def _one_procedure(documents: list[Document]) -> Document:
    """The one Procedure among a file's documents."""
    kinds = [(document.data.get("kind"), document) for document in documents if isinstance(document.data, dict)]
    procedures = [document for kind, document in kinds if kind == "Procedure"]
    if not procedures:
        others = [kind for kind, _ in kinds if kind]
        problem = f"is {others[0]}, not Procedure" if others else "is missing"
        fix = f"start the file with apiVersion: {API_VERSION} and kind: Procedure"
        if others and str(others[0]).endswith("List"):
            fix = "write its items as documents of their own, with --- between them"
        raise DocumentError(documents[0].line("kind") if documents else 1, problem, fix, "kind")
    procedure, *more = procedures
    if more:
        raise DocumentError(more[0].line("kind"), f"is Procedure in {len(procedures)} documents", "give each its own file", "kind")
    return procedure


def header_findings(document: Document) -> Iterator[Finding]:
    """What is wrong with the fields of an object that are not in its spec."""
    version = document.data.get("apiVersion")
    if version != API_VERSION:
        problem = "is missing" if version is None else f"is {version!r}"
        yield Finding("error", "apiVersion", "apiVersion", problem, f"write apiVersion: {API_VERSION}")
    for name in document.data:
        if name not in _FIELDS:
            fix = did_you_mean(name, _FIELDS, f"use {', '.join(_FIELDS[:-1])}; other fields belong below spec, indented")
            fix = "write it below metadata, indented" if name in ("name", "namespace", "labels", "annotations") else fix
            yield Finding("error", name, name, "there is no such field", fix)
    yield from _metadata_findings(document)


def _metadata_findings(document: Document) -> Iterator[Finding]:
    """Names, labels and annotations that are no strings, which the API server refuses."""
    metadata = document.data.get("metadata")
    if not isinstance(metadata, dict):
        return
    texts = {name: metadata[name] for name in ("name", "namespace") if metadata.get(name) is not None}
    for group in ("labels", "annotations"):
        found = metadata.get(group)
        texts |= {f"{group}.{name}": value for name, value in found.items()} if isinstance(found, dict) else {}
    for name, value in texts.items():
        if not isinstance(value, str):
            field = f"metadata.{name}"
            yield _as_written(document, Finding("error", field, field, *not_a_string(value)))


def object_name(document: Document) -> str:
    """An object's name; empty when it has none."""
    metadata = document.data.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def check_document(file: str, document: Document, find: Find, *, scripted: bool = False) -> LintReport:
    """The report on a Procedure, with those that it calls; `scripted`: its teacher is, so that it needs examples."""
    name, header = object_name(document), tuple(header_findings(document))
    try:
        # The API server sees JSON: a number is not a string there, and fields have only their wire names.
        spec = ProcedureSpec.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        written = (_as_written(document, finding) for finding in findings_of(error))
        return LintReport(file, with_lines(document, (*header, *written, *document.slips())), name)
    expansion = expand(name, spec, gather(spec, find))
    analysis = expansion.analyse()
    silent = expansion.in_author_words([*check_examples(expansion.spec)]) if scripted and not expansion.findings else ()
    findings = with_lines(document, (*header, *analysis.findings, *silent, *document.slips()))
    return LintReport(file, findings, name, expansion.spec, analysis, spec)


def _as_written(document: Document, finding: Finding) -> Finding:
    """The finding with what stands in the file, where YAML reads something else: `yes` is true, `12:30` is 750."""
    raw, read = document.scalar(finding.field), _READ_AS.fullmatch(finding.problem)
    if raw is None or read is None or raw.lower() == read[2]:
        return finding
    return replace(finding, problem=f"is {raw}, which YAML reads as {read[1] or ''}{read[2]}, not as a string")


def with_lines(document: Document, findings: Iterable[Finding]) -> tuple[tuple[int, Finding], ...]:
    """``findings`` with their lines, in the order of the file."""
    located = ((document.line(finding.field), finding) for finding in findings)
    return tuple(sorted(located, key=lambda pair: pair[0]))
