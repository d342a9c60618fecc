"""Reads how often a dataset visits each node and edge, from the files that the generate stage writes with it."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import InvalidFileError
from subterra_core.drawing.graph_summary import TraversalCounts
from subterra_core.procedure.anywhere import anywhere_edges_by_node


def read_traversals(path: Path, spec: ProcedureSpec) -> TraversalCounts:
    """Counts from a dataset's folder, its ``coverage.json`` or its ``labels.jsonl``. Raises InvalidFileError."""
    file = path / "coverage.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
        counts = _labels(text) if file.suffix == ".jsonl" else _coverage(json.loads(text))
    except OSError as error:
        fix = "pass a dataset's folder, its coverage.json or its labels.jsonl"
        raise InvalidFileError(f"{file}: cannot be read ({error.strerror}); {fix}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidFileError(f"{file}: not a coverage.json or labels.jsonl of a dataset; pass one that generate wrote") from None
    known = {(node.id, edge.to) for node in spec.nodes for edge in node.next}
    known |= {(node, edge.to) for node, edges in anywhere_edges_by_node(spec).items() for edge in edges}
    if foreign := sorted(set(counts.edges) - known):
        edge = " → ".join(foreign[0])
        raise InvalidFileError(f"{file}: belongs to another version, with an edge {edge}; pass a dataset of this procedure")
    return counts


def _coverage(data: dict[str, Any]) -> TraversalCounts:
    edges = {(str(edge["nodes"][0]), str(edge["nodes"][1])): int(edge["count"]) for edge in data["edges"]}
    return TraversalCounts(
        int(data["conversations"]["train"]), {str(node): int(count) for node, count in data["nodes"].items()}, edges
    )


def _labels(text: str) -> TraversalCounts:
    rows = [json.loads(line) for line in text.encode().splitlines()]
    paths = [[str(node) for node in row["path"]] for row in rows if not row["heldOut"]]
    nodes = Counter(node for path in paths for node in path)
    return TraversalCounts(len(paths), dict(nodes), dict(Counter(edge for path in paths for edge in pairwise(path))))
