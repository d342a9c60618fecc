"""What serves, and what it was and was not tested for: the lines before a conversation. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from subterra_api.digest import short
from subterra_cli.chat.served_agent import ServedAgent

KINDS = {
    "phrasings": "other phrasings",
    "unknownValues": "values in no list",
    "realValues": "real names and places",
    "offTopic": "off-topic remarks",
    "corrections": "corrections",
    "afterEnd": "messages after the end",
}
"""Kinds in ``status.scores.robustness`` of a run, in words."""


def banner_lines(served: ServedAgent) -> list[str]:
    """Two to four lines, with names and counts from the cluster."""
    return [_serves(served), *_tested(served), *filter(None, [served.agent["status"].get("banner")])]


def _serves(served: ServedAgent) -> str:
    version = f"{served.name} is version {served.serving['version']}"
    if served.run is None:
        return f"{version}, model {short(served.serving['modelDigest'])}; the run that made it is not in this namespace."
    base = served.run["spec"]["inputs"].get("baseModel", {}).get("uri", "scratch")
    made_from = served.run.get("status", {}).get("procedureDigest") or ""
    return f"{version}: base model {base}, procedure {short(made_from) or 'unknown'}{_outdated(served, made_from)}."


def _outdated(served: ServedAgent, made_from: str) -> str:
    current = ((served.procedure or {}).get("status") or {}).get("digest")
    if not current or current == made_from:
        return ""
    return f", not yet the current {short(current)} (phase {served.agent['status'].get('phase')})"


def _tested(served: ServedAgent) -> Iterator[str]:
    if served.run is None:
        yield "What it was tested for is in the report of that run."
        return
    scores: Mapping[str, Any] = served.run.get("status", {}).get("scores") or {}
    counts = {score["kind"]: score for score in scores.get("robustness") or ()}
    kinds = KINDS | {kind: kind for kind in counts if kind not in KINDS}
    tested = [f"{word} {_share(counts[kind])}" for kind, word in kinds.items() if _measured(counts.get(kind))]
    untested = [word for kind, word in kinds.items() if not _measured(counts.get(kind))]
    made_up = scores.get("fabrication")
    untested += [] if _measured(made_up) else ["invented values"]
    sentences = [f"Tested: {', '.join(tested)}."] if tested else []
    sentences += [f"Not tested: {', '.join(untested)}."] if untested else []
    yield " ".join(sentences)
    if made_up and _measured(made_up):
        yield f"Values that it stated though nobody had given them: {_share(made_up)}."


def _share(score: Mapping[str, Any]) -> str:
    return f"{score['hits']} of {score['of']}"


def _measured(score: Mapping[str, Any] | None) -> bool:
    return bool(score and score.get("of"))
