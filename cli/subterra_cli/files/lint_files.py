"""Checks files and folders with any number of our objects, and what these say about each other."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from subterra_api.crd import NAME_FIX
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileInputs, CompileRunSpec
from subterra_cli.files.called_files import SUFFIXES, FileDocument, called_in_files
from subterra_cli.files.lint_report import (
    STANDARD_INPUT,
    LintReport,
    check_document,
    check_file,
    header_findings,
    object_name,
    read_documents,
    with_lines,
)
from subterra_cli.files.manifests import agent_inputs
from subterra_cli.files.yaml_document import Document, DocumentError
from subterra_core.procedure.lint.findings import Finding, did_you_mean
from subterra_core.procedure.schema_errors import findings_of
from subterra_core.provider_rules import SCRIPTED, provider_conflicts
from subterra_operator.specs.vllm_container import RefusedArgumentError, check_arguments

KINDS = ("Procedure", "CompiledAgent", "CompileRun")
PROCEDURE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME = 253
AGENT_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class _Objects:
    """The objects of one file, or why there are none."""

    file: str
    documents: tuple[Document, ...] = ()
    failed: LintReport | None = None


@dataclass(frozen=True)
class _Named:
    """What all files together name: procedures, and those with a scripted teacher."""

    procedures: frozenset[str]
    scripted: frozenset[str]


def check_paths(paths: Sequence[str]) -> list[LintReport]:
    """A report for each object in the order of the files, and one for each file that has none or cannot be read."""
    read = [objects for path in paths for objects in _read(path)]
    given = [(objects.file, document) for objects in read for document in objects.documents]
    named = _named([document for _, document in given])
    return [report for objects in read for report in _reports(objects, named, given)]


def _read(path: str) -> Iterator[_Objects]:
    """The objects of a file, or of a folder's files; those of a folder that have none are left out."""
    if path == STANDARD_INPUT or not Path(path).is_dir():
        yield _read_file(path)
        return
    for file in sorted(inside for inside in Path(path).rglob("*") if inside.suffix in SUFFIXES and inside.is_file()):
        objects = _read_file(str(file))
        if objects.documents or (objects.failed and objects.failed.findings[0][1].field in ("", "file")):
            yield objects


def _read_file(file: str) -> _Objects:
    try:
        documents = read_documents(file)
    except DocumentError as error:
        return _Objects(file, failed=LintReport(file, ((error.line, error.finding),)))
    ours = tuple(document for document in documents if _kind(document) in KINDS)
    return _Objects(file, ours, None if ours else check_file(file, documents))


def _kind(document: Document) -> str:
    return str(document.data.get("kind", "")) if isinstance(document.data, dict) else ""


def _named(documents: Sequence[Document]) -> _Named:
    inputs = [found for document in documents if (found := _inputs(document))]
    return _Named(
        frozenset(object_name(document) for document in documents if _kind(document) == "Procedure"),
        frozenset(each.procedure_ref.name for each in inputs if each.generation.teacher.name == SCRIPTED),
    )


def _inputs(document: Document) -> CompileInputs | None:
    """What an agent or run compiles; `None` if it compiles nothing, or has errors."""
    text = json.dumps(document.data.get("spec"))
    try:
        if _kind(document) == "CompileRun":
            return CompileRunSpec.model_validate_json(text, strict=True, by_alias=True, by_name=False).inputs
        if _kind(document) == "CompiledAgent":
            return agent_inputs(CompiledAgentSpec.model_validate_json(text, strict=True, by_alias=True, by_name=False))
    except ValidationError:
        return None
    return None


def _reports(objects: _Objects, named: _Named, given: Sequence[FileDocument]) -> Iterator[LintReport]:
    if objects.failed:
        yield objects.failed
    names = Counter((_kind(document), object_name(document)) for document in objects.documents)
    for document in objects.documents:
        name = object_name(document)
        twice = [_twice(document)] if name and names[_kind(document), name] > 1 else []
        if _kind(document) == "Procedure":
            find = called_in_files(objects.file, given)
            report = check_document(objects.file, document, find, scripted=name in named.scripted)
            yield report.with_findings(with_lines(document, (*twice, *_name_findings(document))))
        else:
            yield LintReport(objects.file, with_lines(document, (*twice, *_manifest_findings(document, named))), name)


def _name_findings(document: Document) -> Iterator[Finding]:
    """What the API server would refuse in the name of a Procedure."""
    name = object_name(document)
    if not name:
        if "name" not in document.data:  # one outside of metadata has a finding of its own
            yield Finding("error", "metadata.name", "metadata.name", "is missing", "give the Procedure a name")
    elif len(name) > _MAX_NAME or not PROCEDURE_NAME.fullmatch(name):
        problem = f"{name!r} cannot be the name of a Procedure"
        fix = f"use at most {_MAX_NAME} letters from a to z, digits, hyphens and dots, with a letter or digit at both ends"
        yield Finding("error", "metadata.name", "metadata.name", problem, fix)


def _twice(document: Document) -> Finding:
    problem = f"{_kind(document)} {object_name(document)} is in this file more than once"
    return Finding("error", "metadata.name", "metadata.name", problem, "give each its own name, or remove one")


def _manifest_findings(document: Document, named: _Named) -> Iterator[Finding]:
    """What is wrong with an agent or a run."""
    yield from header_findings(document)
    agent = _kind(document) == "CompiledAgent"
    model: type[CompiledAgentSpec | CompileRunSpec] = CompiledAgentSpec if agent else CompileRunSpec
    if agent and not AGENT_NAME.fullmatch(object_name(document)):
        problem = f"{object_name(document)!r} cannot be the name of a CompiledAgent"
        yield Finding("error", "metadata.name", "metadata.name", problem, f"use at most 40 {NAME_FIX}")
    try:
        spec = model.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        yield from findings_of(error)
        return
    if isinstance(spec, CompiledAgentSpec):
        yield from _serving_findings(spec)
    if inputs := _inputs(document):
        yield from _input_findings(inputs, "spec.compile.template" if agent else "spec.inputs")
        yield from _reference_findings(inputs, "spec.compile" if agent else "spec.inputs", named)


def _serving_findings(spec: CompiledAgentSpec) -> Iterator[Finding]:
    try:
        check_arguments(spec.serving.args)
    except RefusedArgumentError as error:
        yield _finding(str(error))


def _input_findings(inputs: CompileInputs, parent: str) -> Iterator[Finding]:
    for conflict in provider_conflicts(inputs):
        yield _finding(f"{parent}.{conflict}")


def _finding(text: str) -> Finding:
    """A finding from ``field: problem; fix``."""
    field, _, rest = text.partition(": ")
    problem, _, fix = rest.partition("; ")
    return Finding("error", field, field, problem, fix or "correct it")


def _reference_findings(inputs: CompileInputs, parent: str, named: _Named) -> Iterator[Finding]:
    name, field = inputs.procedure_ref.name, f"{parent}.procedureRef.name"
    if named.procedures and name not in named.procedures:
        fix = f"correct the name ({', '.join(sorted(named.procedures)[:5])}), or pass the file of that Procedure too"
        problem = f"there is no Procedure {name!r} in these files"
        yield Finding("warning", field, field, problem, did_you_mean(name, named.procedures, fix))
