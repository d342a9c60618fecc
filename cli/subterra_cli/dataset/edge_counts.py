"""Reads how often a dataset visits a procedure's nodes and edges, from the files that the generate stage writes beside it."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_core.drawing.summary import Visits


def read_visits(place: Path, spec: ProcedureSpec) -> Visits:
    """Visits from a dataset's folder, its ``coverage.json`` or its ``labels.jsonl``. Raises InvalidFileError."""
    file = place / "coverage.json" if place.is_dir() else place
    try:
        text = file.read_text(encoding="utf-8")
        visits = _labels(text) if file.suffix == ".jsonl" else _coverage(json.loads(text))
    except OSError as error:
        cure = "name a dataset's folder, its coverage.json or its labels.jsonl"
        raise InvalidFileError(f"{file}: cannot be read ({error.strerror}); {cure}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidFileError(
            f"{file}: is no coverage.json or labels.jsonl of a dataset; name the one that generate wrote"
        ) from None
    known = {(node.id, edge.to) for node in spec.nodes for edge in node.next}
    if foreign := sorted(set(visits.edges) - known):
        strange = " → ".join(foreign[0])
        raise InvalidFileError(f"{file}: is of another version, with an edge {strange}; name a dataset of this procedure")
    return visits


def _coverage(data: dict[str, Any]) -> Visits:
    edges = {(str(edge["nodes"][0]), str(edge["nodes"][1])): int(edge["count"]) for edge in data["edges"]}
    return Visits(int(data["conversations"]["train"]), {str(node): int(count) for node, count in data["nodes"].items()}, edges)


def _labels(text: str) -> Visits:
    rows = [json.loads(line) for line in text.splitlines()]
    paths = [[str(node) for node in row["path"]] for row in rows if not row["heldOut"]]
    nodes = Counter(node for path in paths for node in path)
    return Visits(len(paths), dict(nodes), dict(Counter(edge for path in paths for edge in pairwise(path))))
