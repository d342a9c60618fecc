"""Worlds unlike `bench.gate.population`: ceilings, hard scenarios, judges who drift, gaps that are no accident."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
from bench.gate.leaks import CONSISTENCY, LENIENT, Evaluation, Rng, Row
from bench.gate.population import JUDGES, MEANS, Floats, World, draw_cut, shifted
from bench.gate.runs import MARGIN, Played, conversations_that_follow, play
from scipy import stats

from subterra_jobs.evaluate.analysis.paired_scores import ArmScores
from subterra_jobs.evaluate.judge.results import CRITERIA, HIGHEST, LOWEST

BELOW = (0.1, 0.2, 0.3, 0.4)
"""Shares of the scores 1 to 4 among those that are not 5."""
LOST = sum(share * (HIGHEST - score) for share, score in zip(BELOW, range(1, 5), strict=True))
"""Points that a score below 5 loses on average."""
HARD = 0.3
"""Share of hard scenarios; in the others both versions are perfect."""
HARD_SERVING = (0.2, 0.2, 0.2, 0.2, 0.2)
HARD_WORSE = (0.45, 0.2, 0.15, 2 / 15, 1 / 15)
"""Shares of the scores 1 to 5 in hard scenarios; the second loses the margin over all scenarios."""
DRIFT = 1.0
"""Points by which both judges have become stricter at the end of the batch."""


@cache
def _ceiling_cuts(fives: float) -> tuple[float, ...]:
    return tuple(float(cut) for cut in stats.norm.ppf(np.cumsum(np.array(BELOW) * (1 - fives))))


def _ceiling(rng: Rng, fives: float, loss: float, n: int = 300) -> Evaluation:
    """Most scores are 5; the candidate loses `loss` points on one criterion."""
    thresholds = np.array([[_ceiling_cuts(fives)] * len(CRITERIA)] * 2)
    thresholds[0, CONSISTENCY] = _ceiling_cuts(round(fives - loss / LOST, 6))
    arms, challenged = draw_cut(rng, World(n=n), thresholds)
    played = Played(arms[0], {"serving": arms[1]}, challenged, conversations_that_follow(rng, n))
    return Evaluation(played, played.scores())


def _heteroscedastic(rng: Rng, worse: tuple[int, ...]) -> Evaluation:
    """Scores vary in hard scenarios alone; there the candidate loses the margin on the criteria `worse`."""
    hard = rng.random(World.n) < HARD

    def arm(shares: dict[int, tuple[float, ...]]) -> ArmScores:
        columns = [rng.choice(np.arange(1.0, 6.0), World.n, p=shares.get(i, HARD_SERVING)) for i in range(len(CRITERIA))]
        scores = np.where(hard[:, None], np.stack(columns, axis=1), HIGHEST)
        return ArmScores(np.repeat(scores[..., None], JUDGES, axis=2), np.ones(World.n, dtype=bool))

    candidate, serving = arm(dict.fromkeys(worse, HARD_WORSE)), arm({})
    challenged = rng.random(World.n) < World.challenged
    played = Played(candidate, {"serving": serving}, challenged, conversations_that_follow(rng, World.n))
    return Evaluation(played, played.scores())


def _drifting(rng: Rng, means: tuple[float, ...]) -> Evaluation:
    """Both judges become stricter during the batch, whose order is shuffled over scenarios and versions."""
    played = play(rng, World(), means, serving=MEANS)

    def drifted(arm: ArmScores) -> ArmScores:
        strict: Floats = rng.random((World.n, 1, 1)) * DRIFT
        lower = rng.random(arm.scores.shape[:2])[..., None] < strict
        return ArmScores(np.maximum(LOWEST, arm.scores - lower), arm.played)

    judged = replace(played, candidate=drifted(played.candidate), references={"serving": drifted(played.references["serving"])})
    return Evaluation(judged, judged.scores())


def _hidden(rng: Rng, share: float, *, by: int) -> Evaluation:
    """The first `by` judges give no usable answer on a share of the candidate's worst conversations."""
    played = play(rng, World(), shifted(-MARGIN, CONSISTENCY), serving=MEANS)
    scores = played.candidate.scores.copy()
    bad = scores[:, CONSISTENCY].mean(axis=1) <= 3
    scores[bad & (rng.random(World.n) < share), :, :by] = np.nan
    judged = replace(played, candidate=ArmScores(scores, played.candidate.played))
    found = judged.scores()
    assert found.statistics is not None
    tolerated = found.statistics.model_copy(update={"missing": min(found.statistics.missing, LENIENT.max_missing)})
    return Evaluation(judged, found.model_copy(update={"statistics": tolerated}))


WORSE = (
    *(Row(f"{fives:.0%} fives, 0.25 worse on Consistency", partial(_ceiling, fives=fives, loss=MARGIN)) for fives in (0.8, 0.97)),
    Row("97% fives, 0.25 worse on Consistency, n = 100", partial(_ceiling, fives=0.97, loss=MARGIN, n=100)),
    Row("0.25 worse on Consistency, all in hard scenarios", partial(_heteroscedastic, worse=(CONSISTENCY,))),
    Row("0.25 worse on Consistency, judges drift", partial(_drifting, means=shifted(-MARGIN, CONSISTENCY))),
    *(
        Row(f"0.25 worse on Consistency, {by} of 2 judges silent on half of the worst", partial(_hidden, share=0.5, by=by))
        for by in (1, 2)
    ),
)
EQUAL = (
    *(Row(f"{fives:.0%} fives, equal", partial(_ceiling, fives=fives, loss=0.0)) for fives in (0.8, 0.97)),
    Row("80% fives, equal, n = 400", partial(_ceiling, fives=0.8, loss=0.0, n=400)),
    Row("equal, scores vary in hard scenarios alone", partial(_heteroscedastic, worse=())),
    Row("equal, judges drift", partial(_drifting, means=MEANS)),
)
