"""The report: `report.html` for people, `report.json` for later gates, `transcripts.jsonl` for further analysis.

The verdict is the gate's under the agent's policy at the time of the report. The policy may change later without a new evaluation;
the page says so.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from subterra_api import __version__
from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.messages import Gate, RunInput
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.scores import Scores
from subterra_core.gate.verdict import judge
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.anywhere_rows import anywhere_rows
from subterra_jobs.evaluate.analysis.arms import agreement_summary, arm_summary, compare_with, other_arms_task_success
from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve
from subterra_jobs.evaluate.analysis.paper_tables.tables import paper_tables
from subterra_jobs.evaluate.analysis.robustness_summary import Robustness, handling_row, question_rows, robustness_rows
from subterra_jobs.evaluate.analysis.statistics import share_interval
from subterra_jobs.evaluate.analysis.summary import branch_outcomes, compare_seen_with_held_out, illegal_transitions
from subterra_jobs.evaluate.analysis.trial_summary import TrialResults
from subterra_jobs.evaluate.judge.results import RULES, Accuracy, ArmResults, JudgingQuality, Result, counted
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.transcripts import result_row, transcript_row
from subterra_jobs.evaluate.scenarios.path_cover import uncovered_edges
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.store.artifact_store import ArtifactStore

LABELLER_FLOOR = 0.95
"""Share of the agent's turns that the labeller must get right; below it the report warns of what rests on its labels."""


def provenance(run: RunInput, store: ArtifactStore, *, model: str, server_version: str) -> dict[str, str]:
    """Inputs and versions that the report was made with."""
    settings = run.evaluation
    return {
        "run": f"{run.run.namespace}/{run.run.name}",
        "procedure": run.procedure_digest,
        "dataset": store.digest(artifact_path("generate", run.keys.dataset)) or "not in the store",
        "model": store.digest(artifact_path("train", run.keys.model)) or "not in the store",
        "report key": run.keys.report,
        "base model": run.base_model.uri,
        "served as": model,
        "simulator": _provider_name(settings.simulator),
        "judges": ", ".join(_provider_name(each) for each in (settings.judge, settings.second_judge) if each),
        "scenarios, seed": f"{settings.scenarios}, {settings.seed}",
        "vLLM": server_version,
        "Subterra, scipy, Python": f"{__version__}, {version('scipy')}, {platform.python_version()}",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _provider_name(provider: Provider) -> str:
    return f"{provider.name} {provider.model or ''}".strip()


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that is done: what the report is made from. `arms` begins with the candidate."""

    run: RunInput
    graph: Graph
    arms: ArmResults
    scores: Scores
    provenance: Mapping[str, str]
    quality: JudgingQuality = field(default_factory=JudgingQuality)
    gate: Gate = field(default_factory=Gate)
    rare_branches: Sequence[Result] = ()
    """Further conversations of the candidate, which count for the branches alone."""
    robustness: Robustness | None = None
    """`None` if no robustness customers were planned."""
    retiring: tuple[str, ...] = ()
    """Hosted models of the run whose requests fail soon, each with field, date and replacement."""
    trials: TrialResults | None = None
    """`None` if each customer has one conversation."""
    learning_curve: LearningCurve | None = None
    """`None` if the candidate's training left no losses."""


def build_report(evaluated: Evaluated) -> dict[str, Any]:
    """Content of `report.json`; `scenarios` has each scenario's scores and id, for paired comparison.

    Raises ValueError when the arms were not judged by the same judges.
    """
    arms, results, seed = evaluated.arms, evaluated.arms[CANDIDATE], evaluated.run.evaluation.seed
    kept = counted(results)
    return {
        "format": 3,
        "agent": evaluated.run.run.name,
        "banner": evaluated.run.banner,
        "retiring": list(evaluated.retiring),
        **_decision(evaluated),
        "arms": {name: arm_summary(results, seed) for name, results in arms.items()},
        "against": [compare_with(results, other, name, seed) for name, other in arms.items() if name != CANDIDATE],
        **_judging(evaluated),
        **_scenario_counts(arms),
        "seenAgainstUnseen": compare_seen_with_held_out(kept),
        "halves": [_half_summary(kept, unseen) for unseen in (False, True)],
        "slots": _slot_counts(results),
        "fabrication": _fabrication(evaluated),
        "robustness": robustness_rows(evaluated.robustness) if evaluated.robustness else [],
        **_questions(evaluated),
        "trials": evaluated.trials.summary(seed) if evaluated.trials else None,
        "illegalTransitions": illegal_transitions(kept),
        "branches": [branch.model_dump(by_alias=True) for branch in branch_outcomes([*kept, *counted(evaluated.rare_branches)])],
        **_anywhere(evaluated),
        **_as_in_the_paper(evaluated),
        "edgesNotPlayed": [list(edge) for edge in uncovered_edges(evaluated.graph, [result.scenario for result in results])],
        "provenance": dict(evaluated.provenance),
        "scenarios": [
            result_row(result) | {"elsewhere": other_arms_task_success(arms, index)} for index, result in enumerate(results)
        ],
    }


def _anywhere(evaluated: Evaluated) -> dict[str, Any]:
    """Whether the agent honours anywhere edges; nothing for a procedure without any."""
    if not evaluated.graph.spec.anywhere:
        return {}
    results = counted([*evaluated.arms[CANDIDATE], *evaluated.rare_branches])
    return {"anywhere": anywhere_rows(evaluated.graph, results)}


def _questions(evaluated: Evaluated) -> dict[str, Any]:
    """How each question in between was handled; nothing for a procedure without any."""
    rows = question_rows(evaluated.robustness, evaluated.graph.spec) if evaluated.robustness else []
    return {"questions": rows} if rows else {}


def _as_in_the_paper(evaluated: Evaluated) -> dict[str, Any]:
    """The paper's tables if there is a baseline, and the learning curve if there is one."""
    run, curve = evaluated.run, evaluated.learning_curve
    tables = paper_tables(evaluated.graph, evaluated.arms, evaluated.quality.judges, run.base_model.uri, run.evaluation.seed)
    return ({"paper": tables} if tables else {}) | ({"learningCurve": curve.to_json()} if curve else {})


def _decision(evaluated: Evaluated) -> dict[str, Any]:
    scores, gate = evaluated.scores, evaluated.gate
    return {
        "scores": scores.model_dump(mode="json", by_alias=True, exclude_none=True),
        "gate": gate.model_dump(mode="json", by_alias=True),
        "verdict": judge(scores, gate.policy, gate.attempt).model_dump(mode="json", by_alias=True),
    }


def _judging(evaluated: Evaluated) -> dict[str, Any]:
    quality, seed = evaluated.quality, evaluated.run.evaluation.seed
    labeller = _labelling(quality)
    free_words = evaluated.robustness.labelling if evaluated.robustness else None
    return {
        "agreement": agreement_summary(evaluated.arms, quality.repeats, quality.judges, seed),
        "labeller": {**labeller, "conformanceDoubtful": labeller["doubtful"] and quality.judges != (RULES,)},
        "freeWordsLabeller": _labelling(free_words) if free_words else None,
    }


def _labelling(quality: JudgingQuality) -> dict[str, Any]:
    doubtful = quality.accuracy is not None and quality.accuracy.agent.hits < LABELLER_FLOOR * quality.accuracy.agent.of
    accuracy = quality.accuracy and _accuracy_shares(quality.accuracy)
    return {"name": quality.labeller, "accuracy": accuracy, "doubtful": doubtful}


def _scenario_counts(arms: ArmResults) -> dict[str, dict[str, int]]:
    """Per arm, conversations in which the customer misbehaved, those left out for it, and scenarios that an edit affects."""
    return {
        "leftOut": {name: len(results) - len(counted(results)) for name, results in arms.items()},
        "faults": {name: sum(r.conversation.fault is not None for r in results) for name, results in arms.items()},
        "touched": {name: sum(r.scenario.affected_by_edit for r in results) for name, results in arms.items()},
    }


def write_report(output: Path, evaluated: Evaluated) -> None:
    """Writes the three files to the folder `output`. Raises ValueError when the arms were not judged by the same judges."""
    data = build_report(evaluated)
    (output / "report.json").write_text(json.dumps(data, indent=1, ensure_ascii=False))
    with (output / "transcripts.jsonl").open("w") as file:
        for name, results in evaluated.arms.items():
            rows = ({"arm": name} | transcript_row(result) for result in results)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _further_trials(evaluated.trials))
        handlings = evaluated.robustness.handlings if evaluated.robustness else ()
        others = ({"arm": CANDIDATE} | handling_row(each) for each in handlings)
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in others)
    (output / "report.html").write_text(render_html(data, evaluated.graph, evaluated.arms, evaluated.learning_curve))


def _further_trials(trials: TrialResults | None) -> Iterator[dict[str, Any]]:
    """Rows of the second and later trials, with the number of the trial and the scenario of the first."""
    for of_customer in trials.customers if trials else ():
        for number, result in enumerate(of_customer[1:], start=2):
            yield {"arm": CANDIDATE, "trial": number, "trialOf": of_customer[0].scenario.id} | transcript_row(result)


def _accuracy_shares(accuracy: Accuracy) -> dict[str, Any]:
    """Shares with counts and intervals."""
    parts = {"agentTurns": accuracy.agent, "customerTurns": accuracy.customer, "conversations": accuracy.conversations}
    return {
        name: part.model_dump() | {"share": share_interval(part.hits, part.of).model_dump() if part.of else None}
        for name, part in parts.items()
    }


def _half_summary(results: Sequence[Result], unseen: bool) -> dict[str, Any]:
    """Conformance and exact values of the customers with seen, or with held-out, values."""
    half = [result for result in results if result.scenario.unseen == unseen]
    exact = [mention.exact for result in half for mention in result.replay.mentions]
    return {
        "unseen": unseen,
        "n": len(half),
        "conformance": share_interval(sum(r.conformant for r in half), len(half)).model_dump() if half else None,
        "slotsExact": sum(exact) / len(exact) if exact else None,
    }


def _fabrication(evaluated: Evaluated) -> dict[str, Any] | None:
    """Share of asserted values that nobody gave, with its interval; `None` if it was not measured or nothing was asserted."""
    found = evaluated.scores.fabrication
    return found.model_dump() | {"share": share_interval(found.hits, found.of).model_dump()} if found and found.of else None


def _slot_counts(results: Sequence[Result]) -> list[dict[str, Any]]:
    """How often the agent repeated each variable, and how often exactly."""
    mentions = [mention for result in results for mention in result.replay.mentions]
    names = dict.fromkeys(mention.variable for mention in mentions)
    counts = {name: [m.exact for m in mentions if m.variable == name] for name in sorted(names)}
    return [{"variable": name, "exact": sum(exact), "of": len(exact)} for name, exact in counts.items()]
