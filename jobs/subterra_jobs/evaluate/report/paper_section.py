"""What the report's page shows of the paper's tables and of the training: texts for names, transcripts side by side, the curve."""

from collections.abc import Mapping
from typing import Any

from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve
from subterra_jobs.evaluate.judge.results import ArmResults
from subterra_jobs.evaluate.report.curve_chart import draw_curve
from subterra_jobs.evaluate.report.transcripts import transcript_row

MODE_TITLES = {
    "noReply": "no reply",
    "routingError": "routing error at a hub",
    "endedEarly": "ended early",
    "skippedStep": "skipped a step",
    "repeatedQuestion": "repeated a question",
    "otherStep": "a step that was not due",
    "unrecognized": "words that match no step",
    "notFinished": "never came to the end",
    "lostFact": "lost or changed a fact",
    "judgesOnly": "by the judges alone",
}


def paper_section(data: Mapping[str, Any], arms: ArmResults, curve: LearningCurve | None) -> dict[str, Any]:
    """Values for the page's templates."""
    tables = data.get("paper")
    return {
        "mode_titles": MODE_TITLES,
        "side_by_side": _side_by_side(tables, arms) if tables else [],
        "curve": draw_curve(curve) if curve else None,
    }


def _side_by_side(tables: Mapping[str, Any], arms: ArmResults) -> list[dict[str, Any]]:
    """The chosen scenarios with the row of every arm's transcript."""
    return [
        {**chosen, "rows": {arm: transcript_row(results[chosen["index"]]) for arm, results in arms.items()}}
        for chosen in tables["sideBySide"]
    ]
