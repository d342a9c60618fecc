"""Simulated evaluations, decided by the real gate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from bench.gate.population import MEANS, World, draw, shifted

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import AffectedScenarios, Interval, Scores, Statistics
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.comparison_checks import NEEDS_PROCEDURE
from subterra_core.gate.verdict import FORMAT, INTERIM_BLOCK, futile, judge
from subterra_jobs.evaluate.analysis.gate_statistics import Scope, candidate_summary, compare
from subterra_jobs.evaluate.analysis.paired_scores import ArmScores, Ints, Mask, missing_share, proportion
from subterra_jobs.evaluate.judge.results import CRITERIA

POLICY = GatePolicy()
CONFORMANCE = 0.95
MARGIN = POLICY.margin
GENERATIONS, STEP = 10, -0.10
TOUCHED, UNFAIR = 0.5, -1.0
"""Share of scenarios that an edit affects, and the score the old version loses there when judged by the edited procedure."""
RETRIES = 5
UNREAD = Interval(mean=0, low=0, high=0)
"""Placeholder: the gate reads counts and sums, not intervals."""


@dataclass(frozen=True)
class Played:
    """One simulated evaluation. ``followed`` tells for each arm which conversations follow the procedure."""

    candidate: ArmScores
    references: dict[str, ArmScores]
    challenged: Mask
    followed: dict[str, Mask]
    customers: Ints | None = None

    def statistics(self, untouched: Mask | None = None) -> Statistics:
        """The statistics that the gate decides by; an edit affects all but the ``untouched`` scenarios."""
        every = np.ones(len(self.challenged), dtype=bool)
        rows = every if untouched is None else untouched
        own, mine = Scope(self.challenged, every, customers=self.customers), self.followed["candidate"]
        criteria, failures = candidate_summary(self.candidate, own)
        scope = Scope(self.challenged, rows, every, self.customers)
        return Statistics(
            criteria=criteria,
            failures=failures,
            conformance=proportion(mine, own.of(every)),
            comparisons=tuple(
                compare(name, self.candidate, arm, scope, conformant=(mine, self.followed[name]))
                for name, arm in self.references.items()
            ),
            missing=missing_share(self.candidate, *self.references.values()),
            format=FORMAT,
            repeated=len(every) - own.count(every),
            affected=None if rows.all() else self._affected(~rows),
        )

    def _affected(self, rows: Mask) -> AffectedScenarios:
        criteria, failures = candidate_summary(self.candidate, Scope(self.challenged, rows))
        needs = {name: sample for name, sample in criteria.items() if name in NEEDS_PROCEDURE}
        return AffectedScenarios(criteria=needs, failures=failures, conformance=proportion(self.followed["candidate"][rows]))

    def scores(self, untouched: Mask | None = None) -> Scores:
        """The evaluation as the gate receives it."""
        return Scores(
            scenarios=len(self.challenged),
            criteria={},
            failure_rate=UNREAD,
            conformance=UNREAD,
            turns_per_conversation=0,
            statistics=self.statistics(untouched),
        )

    def first(self, count: int) -> "Played":
        """The evaluation after its first ``count`` scenarios."""
        references = {name: _first(arm, count) for name, arm in self.references.items()}
        followed = {name: mask[:count] for name, mask in self.followed.items()}
        return Played(_first(self.candidate, count), references, self.challenged[:count], followed)


def _first(arm: ArmScores, count: int) -> ArmScores:
    return ArmScores(arm.scores[:count], arm.played[:count])


def play(rng: np.random.Generator, world: World, candidate: Sequence[float], **references: Sequence[float]) -> Played:
    """One evaluation of a candidate and references, each given by the true means of its criteria."""
    arms, challenged = draw(rng, world, [tuple(candidate), *(tuple(means) for means in references.values())])
    followed = conversations_that_follow(rng, world.n, ("candidate", *references))
    return Played(arms[0], dict(zip(references, arms[1:], strict=True)), challenged, followed)


def conversations_that_follow(rng: np.random.Generator, n: int, arms: Sequence[str] = ("candidate", "serving")) -> dict[str, Mask]:
    """For each arm which of `n` conversations follow the procedure, each as often as the others."""
    return {name: rng.random(n) < CONFORMANCE for name in arms}


def passed(scores: Scores, attempt: int = 1, alpha: float = ALPHA) -> bool:
    """Whether the gate promotes."""
    return judge(scores, POLICY, attempt, alpha).result == "Pass"


def pass_rate(seed: int, world: World, candidate: Sequence[float], repeats: int) -> float:
    """Rate at which a candidate is promoted at the first attempt."""
    rng = np.random.default_rng(seed)
    return sum(passed(play(rng, world, candidate, serving=MEANS).scores()) for _ in range(repeats)) / repeats


def pass_rates(seed: int, world: World, candidate: Sequence[float], repeats: int, levels: Sequence[float]) -> dict[float, float]:
    """Rate at which a candidate is promoted at each significance level."""
    rng = np.random.default_rng(seed)
    evaluations = [play(rng, world, candidate, serving=MEANS).scores() for _ in range(repeats)]
    return {
        level: sum(passed(scores, alpha=level / alpha_for_attempt(1, 1)) for scores in evaluations) / repeats for level in levels
    }


def worse_somewhere(seed: int, world: World, repeats: int) -> dict[str, float]:
    """For each criterion, the promotion rate of a candidate that is worse by the margin there and equal elsewhere."""
    return {name: pass_rate(seed + i, world, shifted(-MARGIN, i), repeats) for i, name in enumerate(CRITERIA)}


def retried(seed: int, world: World, only: int, repeats: int) -> float:
    """Promotion rate of such a candidate when it is trained and evaluated up to five more times."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        attempts = range(1, RETRIES + 2)
        return any(passed(play(rng, world, shifted(-MARGIN, only), serving=MEANS).scores(), attempt) for attempt in attempts)

    return sum(once() for _ in range(repeats)) / repeats


def creep(seed: int, world: World, only: int | None, repeats: int, *, anchored: bool) -> float:
    """Rate at which ten generations, each slightly worse than the served version, bring one beyond the margin into service."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        steps = 0
        for _ in range(GENERATIONS):
            references = {"serving": shifted(STEP * steps, only)} | ({"anchor": MEANS} if anchored else {})
            if passed(play(rng, world, shifted(STEP * (steps + 1), only), **references).scores()):
                steps += 1
            if steps * STEP < -MARGIN:
                return True
        return False

    return sum(once() for _ in range(repeats)) / repeats


def biased(seed: int, world: World, repeats: int, *, untouched_only: bool) -> float:
    """Pass rate of a candidate 0.30 worse everywhere when the edited procedure judges the old version unfairly."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        touched = rng.permutation(world.n) < round(world.n * TOUCHED)
        played = play(rng, world, shifted(-0.30), serving=MEANS)
        old = played.references["serving"]
        unfair = np.where(touched[:, None, None], np.maximum(1.0, old.scores + UNFAIR), old.scores)
        judged = replace(played, references={"serving": ArmScores(unfair, old.played)})
        return passed(judged.scores(~touched if untouched_only else None))

    return sum(once() for _ in range(repeats)) / repeats


def given_up(seed: int, world: World, candidate: Sequence[float], repeats: int) -> float:
    """Rate at which an interim look stops the evaluation for futility."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        played = play(rng, world, candidate, serving=MEANS)
        return any(futile(played.first(look).statistics(), POLICY) for look in range(INTERIM_BLOCK, world.n, INTERIM_BLOCK))

    return sum(once() for _ in range(repeats)) / repeats
