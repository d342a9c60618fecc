"""Means by arm and judge, in percent of the in-context arm, and effect sizes under their own names. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.analysis.arms import paired_sides
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES, criterion_scores
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, Result, counted

ReportRow = Mapping[str, Any]
"""A scenario of `report.json`."""


def scores_by_judge(results: Sequence[Result], judges: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Each judge's mean of every criterion with a 95 % interval, on conversations that count and that this judge scored."""
    return [_scores_of_judge(counted(results), index, name, seed) for index, name in enumerate(judges)]


def _scores_of_judge(kept: Sequence[Result], index: int, name: str, seed: int) -> dict[str, Any]:
    given = [(result.challenged, each) for result in kept if (each := result.judgements[index]) is not None]
    values = {
        criterion: [float(each.scores[criterion]) for challenged, each in given if challenged or criterion != GRACEFUL]
        for criterion in CRITERIA
    }
    return {
        "judge": name,
        "n": len(given),
        "criteria": {
            criterion: statistics.mean_interval(scores, seed).model_dump() | {"n": len(scores)}
            for criterion, scores in values.items()
            if len(scores) >= (MIN_CHALLENGES if criterion == GRACEFUL else 1)
        },
    }


def percent_of(results: Sequence[Result], reference: Sequence[Result]) -> dict[str, float]:
    """Mean of each criterion in percent of the reference arm's, by the mean of the judges."""
    sides = {name: [criterion_scores(counted(arm), name) for arm in (results, reference)] for name in CRITERIA}
    return {
        name: round(100 * float(np.mean(mine) / np.mean(theirs)), 2)
        for name, (mine, theirs) in sides.items()
        if min(len(mine), len(theirs)) >= (MIN_CHALLENGES if name == GRACEFUL else 1)
    }


def effect_sizes(candidate: Sequence[Result], other: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """By criterion, on the pairs of `compare_with`: `pooledD`, the difference of means in pooled standard deviations, as in the
    paper; `dz`, the mean difference in standard deviations of the differences, which is larger where the arms vary together;
    and p-values for paired and for unpaired scores, each adjusted for five criteria (Holm).
    """
    sides = paired_sides(candidate, other)
    paired = statistics.holm({name: statistics.wilcoxon(*both).p for name, both in sides.items()})
    tests = {name: statistics.mann_whitney(*both) for name, both in sides.items()}
    unpaired = statistics.holm({name: test.p for name, test in tests.items()})
    return {
        name: {
            "n": len(mine),
            "difference": round(float(np.mean(mine) - np.mean(theirs)), 4),
            "pooledD": statistics.cohens_d(mine, theirs),
            "dz": statistics.cohens_dz(mine, theirs),
            "wilcoxonP": paired[name],
            "mannWhitneyU": tests[name].statistic,
            "mannWhitneyP": unpaired[name],
        }
        for name, (mine, theirs) in sides.items()
    }


def compare_runs(rows: Sequence[ReportRow], others: Sequence[ReportRow]) -> dict[str, dict[str, Any]]:
    """By criterion, the candidates of two evaluations with different customers, from the scenarios of their `report.json`.

    p-values are of the Mann-Whitney U test, adjusted for five criteria (Holm); `pooledD` is as in `effect_sizes`.
    """
    sides = {name: (_row_scores(rows, name), _row_scores(others, name)) for name in CRITERIA}
    sides = {name: both for name, both in sides.items() if both[0] and both[1]}
    tests = {name: statistics.mann_whitney(*both) for name, both in sides.items()}
    adjusted = statistics.holm({name: test.p for name, test in tests.items()})
    return {
        name: {
            "n": len(mine),
            "otherN": len(theirs),
            "difference": round(float(np.mean(mine) - np.mean(theirs)), 4),
            "pooledD": statistics.cohens_d(mine, theirs),
            "mannWhitneyU": tests[name].statistic,
            "mannWhitneyP": adjusted[name],
        }
        for name, (mine, theirs) in sides.items()
    }


def _row_scores(rows: Sequence[ReportRow], criterion: str) -> list[float]:
    kept = [row for row in rows if not row["leftOut"] and (criterion != GRACEFUL or row["challenged"])]
    return [float(row["scores"][criterion]) for row in kept]
