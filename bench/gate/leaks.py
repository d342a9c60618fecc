"""Worlds in which a rule may promote what it should not, or keep out what it should promote."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from bench.gate.population import MEANS, World, draw, shifted
from bench.gate.rules import RULES, Rule
from bench.gate.runs import CONFORMANCE, MARGIN, Played, play

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import Branch, JudgeReliability, Scores
from subterra_core.gate.verdict import judge
from subterra_jobs.evaluate.analysis.judge_agreement import weighted_kappa
from subterra_jobs.evaluate.analysis.paired_scores import ArmScores, Mask
from subterra_jobs.evaluate.judge.results import CRITERIA, HIGHEST, LOWEST, TASK
from subterra_jobs.evaluate.scenarios.path_cover import BRANCH_PLAYS

REPEATS = 600
LENIENT = GatePolicy(min_scenarios=30)
"""So that the statistics alone decide about small evaluations."""
CONSISTENCY, TASK_AT = CRITERIA.index("consistency"), CRITERIA.index(TASK)
Rng = np.random.Generator


@dataclass(frozen=True)
class Evaluation:
    """What the rules see: the scores of both arms, and for the gate all that it reads."""

    played: Played
    scores: Scores
    attempt: int = 1


@dataclass(frozen=True)
class Row:
    """A world with a name, and how to draw an evaluation in it."""

    name: str
    evaluate: Callable[..., Evaluation]
    """Draws one with the random numbers that it gets; where `tries` is more than one also with the number of the ``attempt``."""
    tries: int = 1
    """Attempts, each trained and evaluated again; one that is promoted is enough."""

    def drawn(self, rng: Rng) -> list[Evaluation]:
        """The evaluations of all attempts."""
        return [self.evaluate(rng, attempt=k) for k in range(1, self.tries + 1)] if self.tries > 1 else [self.evaluate(rng)]


def promoted(row: Row, repeats: int, rules: Mapping[str, Rule] = RULES) -> dict[str, float]:
    """Share of candidates that the gate promotes, and each of `rules`; the candidates are the same for any rules."""
    rng = np.random.default_rng(80)
    counts: Counter[str] = Counter()
    for _ in range(repeats):
        drawn = row.drawn(rng)
        counts["gate"] += any(judge(each.scores, LENIENT, each.attempt).result == "Pass" for each in drawn)
        counts.update(name for name, rule in rules.items() if any(rule(each.played) for each in drawn))
    return {name: counts[name] / repeats for name in ("gate", *rules)}


def _plain(rng: Rng, means: tuple[float, ...], n: int = 300, attempt: int = 1) -> Evaluation:
    played = play(rng, World(n=n), means, serving=MEANS)
    return Evaluation(played, played.scores(), attempt)


def _edited(rng: Rng, means: tuple[float, ...], untouched: int, n: int = 300) -> Evaluation:
    """Touched scenarios, on which the serving version loses a point to the edited procedure where judges read it."""
    played = play(rng, World(n=n), means, serving=MEANS)
    kept = rng.permutation(n) < untouched
    old = played.references["serving"].scores.copy()
    old[~kept, :2] = np.maximum(LOWEST, old[~kept, :2] - 1)
    judged = replace(played, references={"serving": ArmScores(old, played.references["serving"].played)})
    return Evaluation(judged, judged.scores(kept))


def _failing_branch(rng: Rng, share: float, n: int) -> Evaluation:
    """An equal candidate that always fails on one of 14 branches, which is played at least `BRANCH_PLAYS` times."""
    played = play(rng, World(n=n), MEANS, serving=MEANS)
    there = rng.random(n) < share
    scores, followed = played.candidate.scores.copy(), dict(played.followed)
    scores[there] = LOWEST
    followed["candidate"] = followed["candidate"] & ~there
    broken = replace(played, candidate=ArmScores(scores, played.candidate.played), followed=followed)
    plays = max(BRANCH_PLAYS, int(there.sum()))
    branch = Branch(hub="hub", to="rare", conversations=plays, failures=plays)
    return Evaluation(broken, broken.scores().model_copy(update={"worst_branches": (branch,), "branches_judged": 14}))


def _less_conformant(rng: Rng, candidate: float, serving: float) -> Evaluation:
    played = play(rng, World(), MEANS, serving=MEANS)
    followed = {"candidate": rng.random(World.n) < candidate, "serving": rng.random(World.n) < serving}
    judged = replace(played, followed=followed)
    return Evaluation(judged, judged.scores())


def _catastrophes(rng: Rng, n: int, attempt: int = 1) -> Evaluation:
    """The serving version is always perfect; the candidate is at its worst on one criterion often enough to lose the margin."""
    perfect = np.full((n, len(CRITERIA), 2), HIGHEST)
    broken = perfect.copy()
    broken[rng.random(n) < MARGIN / (HIGHEST - LOWEST), CONSISTENCY] = LOWEST
    every: Mask = np.ones(n, dtype=bool)
    played = Played(ArmScores(broken, every), {"serving": ArmScores(perfect, every)}, every, {"candidate": every, "serving": every})
    return Evaluation(played, played.scores(), attempt)


def _gaps(rng: Rng, rate: float) -> Evaluation:
    """An equal candidate; judges give no usable answer at random."""
    played = play(rng, World(), MEANS, serving=MEANS)

    def without(arm: ArmScores) -> ArmScores:
        missing = rng.random((World.n, 1, arm.scores.shape[2])) < rate
        return ArmScores(np.where(missing, np.nan, arm.scores), arm.played)

    judged = replace(played, candidate=without(played.candidate), references={"serving": without(played.references["serving"])})
    scores = judged.scores()
    assert scores.statistics is not None
    present = scores.statistics.model_copy(update={"missing": min(scores.statistics.missing, LENIENT.max_missing)})
    return Evaluation(judged, scores.model_copy(update={"statistics": present}))


def _guessing_judge(rng: Rng, share: float) -> Evaluation:
    """A candidate worse by the margin everywhere; the second judge guesses a share of its scores."""
    played = play(rng, World(), shifted(-MARGIN), serving=MEANS)

    def guessed(arm: ArmScores) -> ArmScores:
        scores = arm.scores.copy()
        random = rng.integers(1, 6, scores.shape[:2]).astype(float)
        scores[..., 1] = np.where(rng.random(scores.shape[:2]) < share, random, scores[..., 1])
        return ArmScores(scores, arm.played)

    judged = replace(played, candidate=guessed(played.candidate), references={"serving": guessed(played.references["serving"])})
    scores = judged.scores()
    assert scores.statistics is not None
    both = np.concatenate([arm.scores.reshape(-1, 2) for arm in (judged.candidate, judged.references["serving"])])
    apart = float(np.sqrt(((both[:, 0] - both[:, 1]) ** 2).mean()))
    judging = JudgeReliability(kappa=weighted_kappa([*both[:, 0]], [*both[:, 1]]), disagreement=apart)
    statistics = scores.statistics.model_copy(update={"judging": judging})
    return Evaluation(judged, scores.model_copy(update={"statistics": statistics}))


def _repeated(rng: Rng, times: int) -> Evaluation:
    """A candidate worse by the margin on one criterion; every customer is played several times, always with the same words."""
    once, challenged = draw(rng, World(n=World.n // times), [shifted(-MARGIN, CONSISTENCY), MEANS])
    arms = [ArmScores(np.repeat(arm.scores, times, axis=0), np.repeat(arm.played, times)) for arm in once]
    followed = {name: np.repeat(rng.random(World.n // times) < CONFORMANCE, times) for name in ("candidate", "serving")}
    customers = np.repeat(np.arange(World.n // times), times)
    played = Played(arms[0], {"serving": arms[1]}, np.repeat(challenged, times), followed, customers)
    return Evaluation(played, played.scores())


_ONE = shifted(-MARGIN, CONSISTENCY)
_MUCH = shifted(-0.5, CONSISTENCY)
WORSE = (
    Row("0.25 worse on Consistency", partial(_plain, means=_ONE)),
    Row("0.25 worse on Consistency, n = 50", partial(_plain, means=_ONE, n=50)),
    *(
        Row(f"0.50 worse on Consistency, {left} of 300 untouched", partial(_edited, means=_MUCH, untouched=left))
        for left in (0, 29, 110)
    ),
    Row("1.00 worse everywhere, 20 of 300 untouched", partial(_edited, means=shifted(-1.0), untouched=20)),
    Row("0.70 worse on Task Success, 110 of 300 untouched", partial(_edited, means=shifted(-0.7, TASK_AT), untouched=110)),
    Row("a branch of 2 % always fails", partial(_failing_branch, share=0.02, n=300)),
    Row("a branch of 2 % always fails, n = 1,000", partial(_failing_branch, share=0.02, n=1000)),
    Row("88 % follow the procedure, before 96 %", partial(_less_conformant, candidate=0.88, serving=0.96)),
    *(Row(f"catastrophes cost 0.25, n = {n:,}", partial(_catastrophes, n=n)) for n in (30, 50, 80, 100, 300, 1000)),
    *(Row(f"catastrophes cost 0.25, n = {n}, six attempts", partial(_catastrophes, n=n), tries=6) for n in (30, 100, 300)),
    Row("0.25 worse on Consistency, six attempts", partial(_plain, means=_ONE), tries=6),
    *(Row(f"0.25 worse, a judge guesses {share:.0%}", partial(_guessing_judge, share=share)) for share in (0.4, 0.8, 1.0)),
    Row("0.25 worse on Consistency, customers three times", partial(_repeated, times=3)),
)
EQUAL = (
    Row("equal", partial(_plain, means=MEANS)),
    *(Row(f"equal, n = {n}", partial(_plain, means=MEANS, n=n)) for n in (350, 400)),
    *(
        Row(f"equal, {left} of 300 untouched", partial(_edited, means=MEANS, untouched=left))
        for left in (0, 10, 20, 29, 31, 60, 110, 200)
    ),
    *(Row(f"equal, {left} of 500 untouched", partial(_edited, means=MEANS, untouched=left, n=500)) for left in (100, 183)),
    *(Row(f"equal, {rate:.1%} of the judgements missing", partial(_gaps, rate=rate)) for rate in (0.01, 0.019)),
    *(Row(f"equal, attempt {k}", partial(_plain, means=MEANS, attempt=k)) for k in (2, 3, 5)),
    *(Row(f"equal, attempt {k}, n = {n:,}", partial(_plain, means=MEANS, n=n, attempt=k)) for k, n in ((2, 500), (5, 1000))),
)
"""Each as good as what serves."""
