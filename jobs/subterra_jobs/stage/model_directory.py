"""A base model's directory: read and checked before anything is spent. Loads no training library."""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_core.training_fit.base_models.model_checks import model_problem
from subterra_core.training_fit.base_models.model_files import ModelFiles, added_tokens_of, template_of, tokens_of
from subterra_jobs.errors import InvalidInputError

VOLUME_SCHEME = "pvc://"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
READ_SUFFIXES = {".bin", ".jinja", ".json", ".model", ".safetensors", ".txt"}
_LFS_POINTER = b"version "
_HEADER_BYTES = 8
"""A .safetensors file begins with the length of its header."""


def model_on_volume(uri: str) -> Path:
    """The directory of a ``pvc://`` model. Raises InvalidInputError."""
    rest = uri.removeprefix(VOLUME_SCHEME)
    path = Path(STORE_MOUNT, rest.lstrip("/"))
    if not path.is_dir() or ".." in path.parts:
        raise InvalidInputError(f"no model directory {rest} on the store's volume; correct baseModel.uri")
    return path


def require_trainable(
    directory: Path, uri: str, max_length: int, *, weights: bool = True, names: Iterable[str] | None = None
) -> None:
    """Raises InvalidInputError with file, field and fix if the model in `directory` cannot be trained or served.

    Without ``weights`` there need not be any. ``names`` are all files, if the large ones are still to come.
    """
    files = read_model_files(directory, uri)
    if names is not None:
        files = replace(files, names=frozenset(names))
    problem = model_problem(files, max_length, weights=weights) or _damaged_weights(directory)
    if problem:
        raise InvalidInputError(f"base model {uri}: {problem}")


def read_model_files(directory: Path, uri: str) -> ModelFiles:
    """What the directory says of its model. Raises InvalidInputError for files that cannot be read."""
    _require_readable(directory, uri)
    names = frozenset(path.name for path in directory.iterdir())
    for path in sorted(directory.iterdir()):
        if path.suffix in READ_SUFFIXES:
            _require_readable(path, uri)
    config = _fields(directory, "config.json", uri)
    index = next((_fields(directory, name, uri) for name in INDICES if name in names), {})
    template = directory / "chat_template.jinja"
    tokenizer_config = _fields(directory, "tokenizer_config.json", uri)
    added = added_tokens_of(tokenizer_config) | _fields(directory, "added_tokens.json", uri)
    return ModelFiles(
        names=names,
        config=config,
        shards=frozenset((index.get("weight_map") or {}).values()),
        tokens=tokens_of(_fields(directory, "tokenizer.json", uri)) | added if "tokenizer.json" in names else None,
        chat_template=template.read_text("utf-8") if template.is_file() else template_of(tokenizer_config),
    )


def read_json_object(file: Path, uri: str, *, fix: str) -> dict[str, Any]:
    """The object in a JSON file of the base model `uri`. Raises InvalidInputError with `fix` for anything else."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"base model {uri}: {file.name} is not JSON ({error}); {fix}") from None
    if not isinstance(found, dict):
        raise InvalidInputError(f"base model {uri}: {file.name} is not a JSON object; {fix}")
    return found


def _require_readable(path: Path, uri: str) -> None:
    if path.is_symlink() and not path.exists():
        raise InvalidInputError(
            f"base model {uri}: {path.name} is a link to {path.readlink()}, which is not there; copy the files themselves (cp -L)"
        )
    if not os.access(path, os.R_OK):
        raise InvalidInputError(f"base model {uri}: {path.name} may not be read by user {os.getuid()}; run chmod -R a+rX on it")


def _fields(directory: Path, name: str, uri: str) -> dict[str, Any]:
    """The object in a JSON file; empty without the file."""
    file = directory / name
    return read_json_object(file, uri, fix="copy it again") if file.is_file() else {}


def _damaged_weights(directory: Path) -> str | None:
    """What is wrong with the first file of weights that is not whole; `None` if all of them are."""
    for name in sorted(path.name for path in directory.glob("*.safetensors")):
        if problem := _damage(directory / name):
            return f"{name} {problem}"
    return None


def _damage(file: Path) -> str | None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(_HEADER_BYTES)
        if start == _LFS_POINTER:
            return "is a pointer of Git LFS and has no weights; run git lfs pull where it comes from, and copy it again"
        try:
            header = json.loads(opened.read(min(int.from_bytes(start, "little"), size)))
            end = max((each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"), default=0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return "has no header of a .safetensors file; copy it again"
    whole = _HEADER_BYTES + int.from_bytes(start, "little") + end
    return None if size == whole else f"has {size:,} bytes, and {whole:,} by its header; copy it again"
