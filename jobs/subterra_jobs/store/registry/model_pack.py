"""ModelPack's layout (model-spec 0.0.7) of a model in a registry: a layer for each file, as it is, so that a layer's digest is its
file's. Pure.

https://github.com/modelpack/model-spec/blob/main/docs/spec.md
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.store.artifact_store import MANIFEST
from subterra_jobs.store.registry.oci_repository import MANIFEST_TYPE, Descriptor
from subterra_jobs.store.verify import WEIGHTS

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
RAW_TYPES = (WEIGHT_TYPE, WEIGHT_CONFIG_TYPE, DOC_TYPE)
FILE_PATH = "org.cncf.model.filepath"
MODEL_DIGEST = "dev.subterra.model.digest"
"""Annotation with the digest of the model's manifest in a store."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DOCUMENTS = (".md", ".txt", ".html")


@dataclass(frozen=True)
class File:
    """A file of a model, and the blob that it is."""

    path: str
    blob: Descriptor


def media_type(path: str) -> str:
    """The type of the layer that a file is."""
    if path.endswith(WEIGHTS):
        return WEIGHT_TYPE
    return DOC_TYPE if path.endswith(DOCUMENTS) else WEIGHT_CONFIG_TYPE


def config(name: str, version: str, files: Sequence[File]) -> bytes:
    """The artifact's configuration. Without times, so that the same model is the same artifact."""
    return _json(
        {
            "descriptor": {"name": name, "version": version},
            "config": {"format": "safetensors"},
            "modelfs": {"type": "layers", "diffIds": [file.blob.digest for file in files]},
        }
    )


def manifest(about: Descriptor, files: Sequence[File], model: str) -> bytes:
    """The artifact's manifest; ``about`` is its configuration, ``model`` the digest of the model's own manifest."""
    layers = [_descriptor(media_type(file.path), file.blob) | {"annotations": {FILE_PATH: file.path}} for file in files]
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(CONFIG_TYPE, about),
            "layers": layers,
            "annotations": {MODEL_DIGEST: model},
        }
    )


def files_of(content: bytes) -> list[File]:
    """The files of an artifact. Raises InvalidInputError if its manifest is not one that `manifest` makes."""
    try:
        parsed = json.loads(content)
        if parsed.get("artifactType") != ARTIFACT_TYPE:
            raise InvalidInputError(
                f"the artifact is not a model: its artifactType is {parsed.get('artifactType')}, not {ARTIFACT_TYPE}"
            )
        files = [_file(layer) for layer in parsed["layers"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"the artifact's manifest is invalid ({error!r}); push the model again") from None
    paths = [file.path for file in files]
    if twice := sorted(path for path in paths if paths.count(path) > 1):
        raise InvalidInputError(f"the artifact has {twice[0]} twice, so which one is served is not said; export the model again")
    if MANIFEST not in paths:
        raise InvalidInputError(
            f"the artifact has no {MANIFEST}, so it was not exported by Subterra; export it with promotion.export"
        )
    return files


def _file(layer: Mapping[str, Any]) -> File:
    kind, path = layer["mediaType"], layer["annotations"][FILE_PATH]
    if kind not in RAW_TYPES:
        raise InvalidInputError(f"layer {path} has type {kind}; only layers that are files as they are can be served")
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise InvalidInputError(f"layer {path!r} would be written outside of the model's folder")
    if not DIGEST.fullmatch(layer["digest"]):
        raise InvalidInputError(f"layer {path} has digest {layer['digest']!r}; only SHA-256 is served")
    return File(path, Descriptor(layer["digest"], int(layer["size"])))


def _descriptor(kind: str, blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
