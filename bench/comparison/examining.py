"""Labels and judges an arm's conversations, with the same labeller for all arms, and keeps them for readers."""

import json
from collections.abc import Mapping
from pathlib import Path

from bench.comparison.customers import Blocks
from bench.comparison.playing import Played

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.report.transcripts import transcript_row
from subterra_jobs.evaluate.robustness_run import with_assertions

Examined = Mapping[str, list[Result]]
"""Results by block."""


def examine(graph: Graph, labeller: Labeller, customers: Blocks, played: Played) -> Examined:
    """Every conversation checked step by step, with what its agent asserted."""
    reader = ReplyReader(graph, labeller)
    examined = {}
    for block, scenarios in customers.items():
        pairs = zip(scenarios, played.conversations[block], strict=True)
        examined[block] = with_assertions([examine_by_rules(graph, labeller, *pair) for pair in pairs], reader)
    return examined


def write_transcripts(examined: Examined, file: Path) -> None:
    """The conversations with the steps that were expected and found, one JSON line each."""
    rows = [{"block": block} | transcript_row(result) for block, results in examined.items() for result in results]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
