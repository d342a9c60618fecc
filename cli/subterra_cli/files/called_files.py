"""Finds the procedures that a procedure in a file calls: among the files given with it, and in its folder."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.yaml_document import MAX_BYTES, Document, DocumentError, decode, parse
from subterra_core.procedure.calls.called import Unavailable
from subterra_core.procedure.lint.findings import did_you_mean
from subterra_core.procedure.schema_errors import findings_of

SUFFIXES = (".yaml", ".yml", ".json")
Find = Callable[[str], ProcedureSpec | Unavailable]
"""Looks up a called procedure by its name."""
FileDocument = tuple[str, Document]


def called_in_files(file: str, given: Sequence[FileDocument] = ()) -> Find:
    """Looks for procedures in the folder of `file`, then among the documents `given`."""
    near = [(place, document) for place, document in given if Path(place).parent == Path(file).parent]

    @cache
    def in_folder() -> list[FileDocument]:
        return [*_in_folder(file)]

    def find(name: str) -> ProcedureSpec | Unavailable:
        found = _named(name, near) or _named(name, in_folder()) or _named(name, given)
        if found is not None:
            return _read(*found)
        others = [place for place in dict.fromkeys(place for place, _ in given) if Path(place).parent != Path(file).parent]
        problem = f"is neither in {_folder(file)} nor in {', '.join(others)}" if others else f"is not in {_folder(file)}"
        fix = did_you_mean(name, _names([*in_folder(), *given]), "put its file there, pass it too, or correct the name")
        return Unavailable(problem, fix, is_missing=True)

    return find


def _in_folder(file: str) -> Iterator[FileDocument]:
    """The documents of all files next to `file`, itself included; what cannot be read has none."""
    if not Path(file).is_file():
        return
    for other in sorted(path for path in Path(file).parent.iterdir() if path.suffix in SUFFIXES and path.is_file()):
        try:
            yield from ((str(other), document) for document in parse(decode(_content(other))))
        except (DocumentError, OSError):
            continue


def _content(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _folder(file: str) -> str:
    return f"the folder {Path(file).parent}" if Path(file).is_file() else "standard input"


def _named(name: str, documents: Sequence[FileDocument]) -> FileDocument | None:
    return next((each for each in documents if _procedure_name(each[1].data) == name), None)


def _names(documents: Sequence[FileDocument]) -> list[str]:
    """Names of the procedures."""
    return [name for _, document in documents if (name := _procedure_name(document.data))]


def _procedure_name(data: Any) -> str | None:
    """The name of a Procedure; `None` for anything else."""
    if not isinstance(data, dict) or data.get("kind") != "Procedure":
        return None
    metadata = data.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else None


def _read(file: str, document: Document) -> ProcedureSpec | Unavailable:
    try:
        return ProcedureSpec.model_validate_json(json.dumps(document.data.get("spec")), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        finding = next(findings_of(error))
        return Unavailable(f"has errors itself: {file}:{document.line(finding.field)}: {finding}", "correct them there")
