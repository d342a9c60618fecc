"""The report as one HTML page."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.arms import Arms, elsewhere
from subterra_jobs.evaluate.judge.results import CRITERIA, NATURAL, TASK, Result
from subterra_jobs.evaluate.judge.rubric import RUBRIC
from subterra_jobs.evaluate.report.graph_heatmap import picture
from subterra_jobs.evaluate.report.transcripts import transcript
from subterra_jobs.evaluate.simulate.participants import CANDIDATE

WORST, BROKEN, BEST = 15, 3, 5
"""Conversations in the page; those that broke off teach little, so few are shown."""
TITLES = {criterion.name: criterion.title for criterion in RUBRIC}


def html(data: dict[str, Any], graph: Graph, arms: Arms) -> str:
    """One file that needs no network. Everything is escaped: models wrote much of it."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown = [transcript(result) | {"elsewhere": elsewhere(arms, at)} for at, result in enumerate(arms[CANDIDATE])]
    ranked = sorted(zip(arms[CANDIDATE], shown, strict=True), key=lambda pair: _badness(pair[0]))
    broken = [item for result, item in ranked if result.dialogue.error is not None][:BROKEN]
    bad = [item for result, item in ranked if result.dialogue.error is None and not _perfect(result)]
    good = [item for result, item in reversed(ranked) if _perfect(result)][:BEST]
    return environment.get_template("report.html.j2").render(
        data=data, titles=TITLES, graph=picture(graph, arms[CANDIDATE]), worst=[*broken, *bad][:WORST], good=good,
        troubled=sum(not _perfect(result) for result in arms[CANDIDATE]),
        judges=[each["name"] for each in data["agreement"]["judges"]], reasons=[*map(_titled, data["verdict"]["reasons"])],
    )  # fmt: skip


def _titled(reason: str) -> str:
    """With the criteria's names as people read them."""
    for name, title in TITLES.items():
        reason = reason.replace(name, title)
    return reason


def _badness(result: Result) -> tuple[float, float, float]:
    return result.score(TASK), sum(map(result.score, CRITERIA)), result.score(NATURAL)


def _perfect(result: Result) -> bool:
    """No step and no value wrong."""
    return result.conformant and all(mention.exact for mention in result.replay.mentions)
