"""Overlap of scenarios and training data."""

import json
from collections.abc import Sequence
from pathlib import Path as FilePath

from subterra_jobs.evaluate.scenarios.scenario import CustomerSignature, Scenario, path_signature


def training_signatures(dataset: FilePath) -> frozenset[CustomerSignature]:
    """Signatures of a dataset's customers: by lines, and by path and values."""
    found = set[CustomerSignature]()
    for file in sorted(dataset.glob("*.jsonl")):
        with file.open() as rows:
            for row in map(json.loads, rows):
                if "path" in row:
                    found.add(path_signature(row["path"], row["values"]))
                found.add(tuple(message["content"] for message in row.get("messages", ()) if message["role"] == "user"))
    return frozenset(found - {()})


def count_in_training(scenarios: Sequence[Scenario], training: frozenset[CustomerSignature]) -> int:
    """Number of scenarios that are also training conversations; above 0 only where the procedure leaves no choice."""
    return sum(scenario.signature in training for scenario in scenarios)
