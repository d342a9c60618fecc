"""The report: ``report.html`` for people, ``report.json`` for later gates, ``transcripts.jsonl`` for a second look.

It gives no verdict: that is the gate's, by a policy that may change without playing anything again.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from subterra_api import __version__
from subterra_api.contract import RunInput, artifact_path
from subterra_api.graph import Graph
from subterra_api.v1alpha1.scores import Scores
from subterra_jobs.common.store import ArtifactStore
from subterra_jobs.evaluate.judge import CRITERIA, NATURAL, TASK
from subterra_jobs.evaluate.results import Result
from subterra_jobs.evaluate.scenarios import missed
from subterra_jobs.evaluate.scoring import branches, compare_seen, price, transitions
from subterra_jobs.evaluate.statistics import share_interval

WORST, BROKEN, BEST = 15, 3, 5
"""Conversations in the page; those that broke off teach little, so few are shown."""
TITLES = dict(
    zip(CRITERIA, ("Task Success", "Information Accuracy", "Consistency", "Graceful Handling", "Naturalness"), strict=True)
)  # fmt: skip


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
        "simulator": settings.simulator.name,
        "judge": settings.judge.name,
        "scenarios, seed": f"{settings.scenarios}, {settings.seed}",
        "vLLM": server_version,
        "Subterra, scipy, Python": f"{__version__}, {version('scipy')}, {platform.python_version()}",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def build(run: RunInput, graph: Graph, results: Sequence[Result], scores: Scores, about: dict[str, str]) -> dict[str, Any]:
    """Everything in the report, ready for JSON. ``scenarios`` has each scenario's scores under its id, for paired comparison."""
    return {
        "format": 1,
        "agent": run.run.name,
        "banner": run.banner,
        "scores": scores.model_dump(mode="json", by_alias=True),
        "unplayed": sum(result.dialogue.error is not None for result in results),
        "challenges": sum(result.challenged for result in results),
        "seenAgainstUnseen": compare_seen(results),
        "halves": [_half(results, unseen) for unseen in (False, True)],
        "slots": _slots(results),
        "illegalTransitions": transitions(results),
        "branches": [branch.model_dump(by_alias=True) for branch in branches(results)],
        "edgesNotPlayed": [list(hop) for hop in missed(graph, [result.scenario for result in results])],
        "price": price(results),
        "provenance": about,
        "scenarios": [_row(result) for result in results],
    }


def write(output: Path, data: dict[str, Any], results: Sequence[Result]) -> None:
    """The three files."""
    (output / "report.json").write_text(json.dumps(data, indent=1, ensure_ascii=False))
    with (output / "transcripts.jsonl").open("w") as file:
        file.writelines(json.dumps(transcript(result), ensure_ascii=False) + "\n" for result in results)
    (output / "report.html").write_text(html(data, results))


def html(data: dict[str, Any], results: Sequence[Result]) -> str:
    """One file that needs no network. Everything is escaped: models wrote much of it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    ranked = sorted(results, key=_badness)
    broken = [result for result in ranked if result.dialogue.error is not None][:BROKEN]
    bad = [result for result in ranked if result.dialogue.error is None and not _perfect(result)]
    good = [result for result in reversed(ranked) if _perfect(result)][:BEST]
    return environment.get_template("report.html.j2").render(
        data=data, titles=TITLES, worst=[transcript(r) for r in [*broken, *bad][:WORST]], good=[transcript(r) for r in good],
        troubled=sum(not _perfect(result) for result in results),
    )  # fmt: skip


def transcript(result: Result) -> dict[str, Any]:
    """A conversation with what each agent turn was and should have been."""
    return _row(result) | {
        "path": list(result.scenario.path),
        "values": result.scenario.values,
        "error": result.dialogue.error,
        "turns": _turns(result),
    }


def _turns(result: Result) -> list[dict[str, Any]]:
    turns, at = [], 0
    for message in result.dialogue.chat:
        turn: dict[str, Any] = {"role": message["role"], "text": message["content"]}
        if message["role"] == "assistant":
            if at < len(result.replay.turns):
                turn |= _checked(result, at)
            at += 1
        turns.append(turn)
    return turns


def _checked(result: Result, at: int) -> dict[str, Any]:
    turn = result.replay.turns[at]
    wrong = [mention for mention in result.replay.mentions if mention.turn == at and not mention.exact]
    return {
        "expected": list(turn.prescribed.nodes),
        "got": list(turn.label.nodes) if turn.label else [],
        "right": turn.right,
        "slots": [{"variable": m.variable, "said": m.said, "meant": m.meant} for m in wrong],
    }


def _row(result: Result) -> dict[str, Any]:
    wrong = result.replay.violation
    return {
        "id": result.scenario.id,
        "unseen": result.scenario.unseen,
        "played": result.dialogue.error is None,
        "challenged": result.challenged,
        "conformant": result.conformant,
        "terminal": result.scenario.path[-1],
        "reached": result.replay.reached,
        "violation": asdict(wrong) if wrong else None,
        "scores": {name: result.score(name) for name in CRITERIA},
    }


def _badness(result: Result) -> tuple[float, float, float]:
    return result.score(TASK), sum(map(result.score, CRITERIA)), result.score(NATURAL)


def _perfect(result: Result) -> bool:
    """No step and no value wrong."""
    return result.conformant and all(mention.exact for mention in result.replay.mentions)


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
