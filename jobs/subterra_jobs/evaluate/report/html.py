"""The report as one HTML page."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.arms import other_arms_task_success
from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve
from subterra_jobs.evaluate.judge.results import CRITERIA, NATURAL, TASK, ArmResults, Result
from subterra_jobs.evaluate.judge.rubric import RUBRIC
from subterra_jobs.evaluate.report.graph_heatmap import draw_heatmap
from subterra_jobs.evaluate.report.paper_section import paper_section
from subterra_jobs.evaluate.report.transcripts import transcript_row
from subterra_jobs.evaluate.simulate.participants import CANDIDATE

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
WORST, BROKEN, BEST = 15, 3, 5
"""Numbers of conversations shown; failed simulations are of little interest, so few are shown."""
TITLES = {criterion.name: criterion.title for criterion in RUBRIC}


def render_html(data: dict[str, Any], graph: Graph, arms: ArmResults, curve: LearningCurve | None = None) -> str:
    """One self-contained page. Everything is escaped, because models wrote much of it."""
    results = arms[CANDIDATE]
    worst, good = _selected(arms)
    return _TEMPLATES.get_template("report.html.j2").render(
        data=data,
        titles=TITLES,
        graph=draw_heatmap(graph, results),
        worst=worst,
        good=good,
        troubled=sum(not _is_perfect(result) for result in results),
        judges=[judge["name"] for judge in data["agreement"]["judges"]],
        reasons=[*map(_with_titles, data["verdict"]["reasons"])],
        **paper_section(data, arms, curve),
    )


def _selected(arms: ArmResults) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the worst and of the good conversations of the candidate."""
    rows = [
        transcript_row(result) | {"elsewhere": other_arms_task_success(arms, index)} for index, result in enumerate(arms[CANDIDATE])
    ]
    ranked = sorted(zip(arms[CANDIDATE], rows, strict=True), key=lambda pair: _sort_key(pair[0]))
    failed = [row for result, row in ranked if result.conversation.error is not None][:BROKEN]
    bad = [row for result, row in ranked if result.conversation.error is None and not _is_perfect(result)]
    good = [row for result, row in reversed(ranked) if _is_perfect(result)][:BEST]
    return [*failed, *bad][:WORST], good


def _with_titles(reason: str) -> str:
    """`reason` with the titles of criteria instead of their names."""
    for name, title in TITLES.items():
        reason = reason.replace(name, title)
    return reason


def _sort_key(result: Result) -> tuple[float, float, float]:
    return result.score(TASK), sum(map(result.score, CRITERIA)), result.score(NATURAL)


def _is_perfect(result: Result) -> bool:
    """True if every step and every value is right."""
    return result.conformant and all(mention.exact for mention in result.replay.mentions)
