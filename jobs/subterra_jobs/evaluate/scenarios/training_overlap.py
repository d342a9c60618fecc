"""Scenarios that were also in the training data."""

import json
from collections.abc import Sequence
from pathlib import Path as FilePath

from subterra_jobs.evaluate.scenarios.scenario import Mark, Scenario, customer


def training_marks(dataset: FilePath) -> frozenset[Mark]:
    """What the customers say in each conversation of a dataset, and who takes which way in it."""
    found = set[Mark]()
    for file in sorted(dataset.glob("*.jsonl")):
        with file.open() as rows:
            for row in map(json.loads, rows):
                if "path" in row:
                    found.add(customer(row["path"], row["values"]))
                found.add(tuple(message["content"] for message in row.get("messages", ()) if message["role"] == "user"))
    return frozenset(found - {()})


def overlap(scenarios: Sequence[Scenario], trained: frozenset[Mark]) -> int:
    """How many scenarios are also training conversations; above 0 only where the procedure leaves no choice."""
    return sum(scenario.mark in trained for scenario in scenarios)
