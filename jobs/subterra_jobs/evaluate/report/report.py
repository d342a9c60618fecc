"""The report: ``report.html`` for people, ``report.json`` for later gates, ``transcripts.jsonl`` for a second look.

The verdict is the gate's, by the agent's own policy, which may change without playing anything again. The report tells what the
gate says at the moment it is made, and that this is what it tells.
"""

import json
import platform
from collections.abc import Sequence
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
from subterra_jobs.evaluate.analysis.arms import Arms, against, agreement, elsewhere, figures
from subterra_jobs.evaluate.analysis.statistics import share_interval
from subterra_jobs.evaluate.analysis.summary import branches, compare_seen, transitions
from subterra_jobs.evaluate.judge.results import Accuracy, Judging, Result
from subterra_jobs.evaluate.report.html import html
from subterra_jobs.evaluate.report.transcripts import _row, transcript
from subterra_jobs.evaluate.scenarios.path_cover import missed
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.store.artifacts import ArtifactStore


def provenance(run: RunInput, store: ArtifactStore, *, model: str, server_version: str) -> dict[str, str]:
    """What the figures were made from and with."""
    settings = run.evaluation
    return {
        "run": f"{run.run.namespace}/{run.run.name}",
        "procedure": run.procedure_digest,
        "dataset": store.digest(artifact_path("generate", run.keys.dataset)) or "not in the store",
        "model": store.digest(artifact_path("train", run.keys.model)) or "not in the store",
        "report key": run.keys.report,
        "base model": run.base_model.uri,
        "served as": model,
        "simulator": _told(settings.simulator),
        "judges": ", ".join(_told(each) for each in (settings.judge, settings.second_judge) if each),
        "scenarios, seed": f"{settings.scenarios}, {settings.seed}",
        "vLLM": server_version,
        "Subterra, scipy, Python": f"{__version__}, {version('scipy')}, {platform.python_version()}",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _told(provider: Provider) -> str:
    return f"{provider.name} {provider.model or ''}".strip()


def build(
    run: RunInput, graph: Graph, arms: Arms, scores: Scores, about: dict[str, str], judging: Judging | None = None,
    gate: Gate | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything in the report, ready for JSON; ``arms`` begins with the candidate. ``scenarios`` has each scenario's scores under
    its id, for paired comparison. Raises ValueError when the arms were not judged by the same judges.
    """
    judging, gate, seed, results = judging or Judging(), gate or Gate(), run.evaluation.seed, arms[CANDIDATE]
    verdict = judge(scores, gate.policy, gate.attempt)
    return {
        "format": 3,
        "agent": run.run.name,
        "banner": run.banner,
        "scores": scores.model_dump(mode="json", by_alias=True, exclude_none=True),
        "gate": gate.model_dump(mode="json", by_alias=True),
        "verdict": verdict.model_dump(mode="json", by_alias=True),
        "arms": {name: figures(each, seed) for name, each in arms.items()},
        "against": [against(results, other, name, seed) for name, other in arms.items() if name != CANDIDATE],
        "agreement": agreement(arms, judging.repeats, judging.judges, seed),
        "labeller": {"name": judging.labeller, "accuracy": judging.accuracy and _accuracy(judging.accuracy)},
        "faults": {name: sum(each.dialogue.fault is not None for each in all_of) for name, all_of in arms.items()},
        "touched": {name: sum(each.scenario.touched for each in all_of) for name, all_of in arms.items()},
        "seenAgainstUnseen": compare_seen(results),
        "halves": [_half(results, unseen) for unseen in (False, True)],
        "slots": _slots(results),
        "illegalTransitions": transitions(results),
        "branches": [branch.model_dump(by_alias=True) for branch in branches(results)],
        "edgesNotPlayed": [list(hop) for hop in missed(graph, [result.scenario for result in results])],
        "provenance": about,
        "scenarios": [_row(result) | {"elsewhere": elsewhere(arms, at)} for at, result in enumerate(results)],
    }


def write(output: Path, data: dict[str, Any], graph: Graph, arms: Arms) -> None:
    """The three files."""
    (output / "report.json").write_text(json.dumps(data, indent=1, ensure_ascii=False))
    with (output / "transcripts.jsonl").open("w") as file:
        for name, results in arms.items():
            file.writelines(json.dumps({"arm": name} | transcript(result), ensure_ascii=False) + "\n" for result in results)
    (output / "report.html").write_text(html(data, graph, arms))


def _accuracy(found: Accuracy) -> dict[str, Any]:
    """Shares with their counts and intervals."""
    parts = {"agentTurns": found.agent, "customerTurns": found.customer, "conversations": found.conversations}
    return {
        name: tally.model_dump() | {"share": share_interval(tally.hits, tally.of).model_dump() if tally.of else None}
        for name, tally in parts.items()
    }


def _half(results: Sequence[Result], unseen: bool) -> dict[str, Any]:
    """Conformance and slots of the customers with seen, or with held-out values."""
    half = [result for result in results if result.scenario.unseen == unseen]
    exact = [mention.exact for result in half for mention in result.replay.mentions]
    return {
        "unseen": unseen,
        "n": len(half),
        "conformance": share_interval(sum(r.conformant for r in half), len(half)).model_dump() if half else None,
        "slotsExact": sum(exact) / len(exact) if exact else None,
    }


def _slots(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each variable, how often the agent repeated it, and how often exactly."""
    mentions = [mention for result in results for mention in result.replay.mentions]
    names = dict.fromkeys(mention.variable for mention in mentions)
    counts = {name: [m.exact for m in mentions if m.variable == name] for name in sorted(names)}
    return [{"variable": name, "exact": sum(exact), "of": len(exact)} for name, exact in counts.items()]
