"""From a procedure with anywhere edges to its dataset, with the scripted teacher."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.generate import main
from subterra_testkit.runs.generation_inputs import example, run_input
from subterra_testkit.runs.generation_runs import generate
from subterra_testkit.runs.in_process_pool import InProcessPool


def test_the_dataset_has_customers_who_leave_and_the_agent_goes_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "RayPool", InProcessPool)
    spec = example("delivery")
    outcome, output = generate(run_input(tmp_path, spec, conversations=150), tmp_path / "out")
    assert "not trained" not in (outcome.message or "")
    graph, seen = Graph(spec), set[str]()
    labels = {row["id"]: row for row in map(json.loads, (output / "labels.jsonl").read_text().splitlines())}
    for line in (output / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        label = labels[row["id"]]
        turns = dict(enumerate(label["turns"]))
        for source, target in pairwise(label["path"]):
            if graph.leaves(source, target) and "detour" not in label:
                seen.add(target)
                at = next(index for index, nodes in turns.items() if nodes == [target])
                assert turns[at - 1] == [source]
                said = row["messages"][1 + at]["content"]
                assert any(said.startswith(text) for text in graph.nodes[target].examples)
    assert seen == {"handover", "ask_cancel"}
