"""Reads a Procedure from a YAML file, with errors that name the place."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.procedure import ProcedureSpec

MAX_BYTES = 1024 * 1024


class InvalidFileError(Exception):
    """The file holds no procedure; the message says where and what to do."""


def load(file: Path) -> ProcedureSpec:
    """The procedure in a file. Raises InvalidFileError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InvalidFileError(f"is larger than {MAX_BYTES} bytes; a procedure fits into 512 KiB")
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InvalidFileError(f"is not YAML: {' '.join(str(error).split())}") from None
    return _spec(document)


def _spec(document: Any) -> ProcedureSpec:
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, "Procedure"):
        raise InvalidFileError(f"is no Procedure; it should begin with apiVersion: {API_VERSION} and kind: Procedure")
    try:
        return ProcedureSpec.model_validate(document.get("spec"))
    except ValidationError as error:
        lines = [f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InvalidFileError("\n  ".join([f"{len(lines)} fields are wrong:", *lines])) from None
