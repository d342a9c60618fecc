"""Reads a Procedure from a YAML file, and tells with lines what is wrong with it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from subterra_api.lint import Finding
from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.lines import line_of

MAX_BYTES = 1024 * 1024


class InvalidFileError(Exception):
    """The file holds no procedure; the message says where and what to do."""


def load(file: Path) -> ProcedureSpec:
    """The procedure in a file. Raises InvalidFileError."""
    text = _read(file)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidFileError(f"is not YAML: {' '.join(str(error).split())}") from None
    return _spec(document, text)


def told(file: Path, findings: Iterable[Finding]) -> list[str]:
    """A line for each finding, in the order of the file: ``FILE:LINE: error: edge a → b: problem; cure [field]``."""
    text = _read(file)
    placed = sorted(((line_of(text, finding.field), finding) for finding in findings), key=lambda pair: pair[0])
    return [f"{file}:{line}: {finding.severity}: {finding} [{finding.field}]" for line, finding in placed]


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InvalidFileError(f"is larger than {MAX_BYTES} bytes; a procedure fits into 512 KiB")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"cannot be read: {error}") from None


def _spec(document: Any, text: str) -> ProcedureSpec:
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, "Procedure"):
        raise InvalidFileError(f"is no Procedure; it should begin with apiVersion: {API_VERSION} and kind: Procedure")
    try:
        return ProcedureSpec.model_validate(document.get("spec"))
    except ValidationError as error:
        fields = [(_field(each["loc"]), each["msg"]) for each in error.errors()]
        lines = [f"line {line_of(text, field)}: {field}: {message}" for field, message in fields]
        raise InvalidFileError("\n  ".join([f"{len(lines)} fields are wrong:", *lines])) from None


def _field(steps: Sequence[str | int]) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
