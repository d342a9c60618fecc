"""A LangGraph graph goes on its way: imported, its gaps filled in by an author, linted, and written out as training data."""

import random
from pathlib import Path
from typing import Any

import yaml
from tests.fakes.generation import run_input
from typer.testing import CliRunner

from subterra_api.graph import Graph
from subterra_cli.lint import load
from subterra_cli.main import app
from subterra_jobs.common import scripted
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan import plan
from subterra_jobs.generate.writer import Conversation


def filled_in(document: dict[str, Any]) -> dict[str, Any]:
    """What an author does with the gaps: says who the agent is, what is said, and in which words a branch shows."""
    spec = document["spec"] | {"systemPrompt": "You help a shop's customers."}
    for place, node in enumerate(spec["nodes"]):
        node.update(prompt=f"Say line {place}.", examples=[f"This is line {place}."])
        for branch, edge in enumerate(node.get("next", [])):
            if "when" in edge:
                edge.update(when=f"The customer wants {branch}.", examples=[f"I want {branch} of {place}."])
    return document | {"spec": spec}


def test_an_imported_graph_becomes_conversations(tmp_path: Path) -> None:
    imported = CliRunner().invoke(app, ["import", "langgraph", "tests.fakes.langgraph_shop:graph"])
    file = tmp_path / "procedure.yaml"
    file.write_text(yaml.safe_dump(filled_in(yaml.safe_load(imported.stdout)), sort_keys=False))
    linted = CliRunner().invoke(app, ["lint", str(file)])
    assert (linted.exit_code, linted.stderr) == (0, "")

    run, dataset = run_input(tmp_path, load(file), conversations=60), tmp_path / "dataset"
    graph = Graph(run.procedure)
    slots = plan(run.procedure, run.generation)
    said = [tuple(scripted.write(graph, slot.path, slot.values, random.Random(slot.id))) for slot in slots]
    dataset.mkdir()
    outcome = write_dataset(graph, [Conversation(slot, words) for slot, words in zip(slots, said, strict=True)], dataset)
    assert "9 of 9 edges covered" in outcome.message
