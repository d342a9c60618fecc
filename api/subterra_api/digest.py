"""Canonical JSON and the digests that name procedures and runs.

A digest covers significant fields only. Fields at their default are left out, so that `maxVisits: 2` and its absence are the same
procedure, and a new optional field changes no digest. Operator version, images, serving, promotion, cost, budget, deadlines, pools,
queue and secrets are never hashed: changing them starts no run.
"""

import hashlib
import json
from typing import Any

from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec

HASH_VERSION = 1
"""Incremented when the meaning of the same inputs changes; every agent then recompiles."""


def canonical(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(value: Any) -> str:
    """`sha256:…` of the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def short(digest: str, length: int = 8) -> str:
    """First hex digits of `digest`, for names."""
    return digest.removeprefix("sha256:")[:length]


def significant_fields(model: ApiModel) -> Any:
    """Fields that differ from their defaults."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)


def procedure_digest(spec: ProcedureSpec) -> str:
    """Digest of the procedure's significant fields, independent of the order of nodes and variables."""
    content = significant_fields(spec)
    content["nodes"] = sorted(content["nodes"], key=lambda node: str(node["id"]))
    content["variables"] = sorted(content.get("variables", []), key=lambda variable: str(variable["name"]))
    return sha256({"hashVersion": HASH_VERSION, "procedure": content})


def run_digest(procedure: str, inputs: CompileInputs) -> str:
    """Digest of everything that determines a run's result; part of the run's name."""
    settings = {key: significant_fields(getattr(inputs, key)) for key in ("base_model", "generation", "training", "evaluation")}
    return sha256({"hashVersion": HASH_VERSION, "procedure": procedure, **settings})


def run_name(agent: str, digest: str) -> str:
    """`<agent>-<digest8>`."""
    return f"{agent}-{short(digest)}"
