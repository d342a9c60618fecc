"""All tables of the paper for one evaluation. Pure."""

from collections.abc import Sequence
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.paper_tables.arm_kinds import is_baseline, kind_of, reference_arm, uses_base_model
from subterra_jobs.evaluate.analysis.paper_tables.effort import effort_table
from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import failure_modes, failure_table
from subterra_jobs.evaluate.analysis.paper_tables.hub_accuracy import hub_table
from subterra_jobs.evaluate.analysis.paper_tables.score_tables import effect_sizes, percent_of, scores_by_judge
from subterra_jobs.evaluate.judge.results import TASK, ArmResults
from subterra_jobs.evaluate.simulate.participants import CANDIDATE

SIDE_BY_SIDE = 6
"""Scenarios whose transcripts are shown in all arms."""


def paper_tables(graph: Graph, arms: ArmResults, judges: Sequence[str], base_model: str, seed: int) -> dict[str, Any] | None:
    """The tables as JSON, by arm; `None` without a baseline, where there is nothing that the paper compares."""
    if not any(map(is_baseline, arms)):
        return None
    reference = reference_arm(arms, base_model)
    return {
        "inContext": reference,
        "arms": {arm: {"kind": kind_of(arm), "sameModel": uses_base_model(arm, base_model)} for arm in arms},
        "byJudge": {arm: scores_by_judge(results, judges, seed) for arm, results in arms.items()},
        "percentOfInContext": {arm: percent_of(results, arms[reference]) for arm, results in arms.items()} if reference else {},
        "effects": {arm: effect_sizes(arms[CANDIDATE], results) for arm, results in arms.items() if arm != CANDIDATE},
        "failures": {arm: failure_table(graph, results) for arm, results in arms.items()},
        "hubs": {arm: hub_table(graph, results) for arm, results in arms.items()},
        "effort": effort_table(arms, reference),
        "sideBySide": side_by_side(graph, arms),
    }


def side_by_side(graph: Graph, arms: ArmResults) -> list[dict[str, Any]]:
    """Scenarios in which the arms differ most in Task Success, with each arm's score and failure modes.

    `index` is the scenario's number in every arm; the conversations are in `transcripts.jsonl`, by arm and id.
    """
    rows = [*zip(*arms.values(), strict=True)]
    played = [index for index, row in enumerate(rows) if not any(result.absent for result in row)]

    def spread(index: int) -> float:
        scores = [float(result.score(TASK)) for result in rows[index]]
        return max(scores) - min(scores)

    chosen = sorted(played, key=lambda index: -spread(index))[:SIDE_BY_SIDE]
    return [
        {
            "index": index,
            "id": rows[index][0].scenario.id,
            "arms": {
                arm: {"taskSuccess": results[index].score(TASK), "modes": failure_modes(graph, results[index])}
                for arm, results in arms.items()
            },
        }
        for index in chosen
    ]
