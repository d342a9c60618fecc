"""Simulated evaluations, judged by the gate itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from bench.gate.population import MEANS, World, draw, shifted

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import Interval, Scores, Statistics, Tally
from subterra_core.gate.verdict import ALPHA, BLOCK, futile, judge, spend
from subterra_jobs.evaluate.analysis.gate_statistics import Arm, compare, own
from subterra_jobs.evaluate.judge.results import CRITERIA

POLICY = GatePolicy()
CONFORMANCE = 0.95
MARGIN = POLICY.margin
GENERATIONS, STEP = 10, -0.10
TOUCHED, UNFAIR = 0.5, -1.0
"""Share of the scenarios that an edit touches, and what the old version loses there when the edited procedure judges it."""
RETRIES = 5
UNREAD = Interval(mean=0, low=0, high=0)
"""The gate reads counts and sums, not these."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Played:
    """One simulated evaluation."""

    candidate: Arm
    references: dict[str, Arm]
    challenged: Mask
    conformance: Tally

    def statistics(self, comparable: Mask | None = None) -> Statistics:
        """What the gate decides by."""
        rows = np.ones(len(self.challenged), dtype=bool) if comparable is None else comparable
        criteria, failures = own(self.candidate, self.challenged)
        comparisons = tuple(
            compare(name, self.candidate, arm, challenged=self.challenged, comparable=rows) for name, arm in self.references.items()
        )
        return Statistics(criteria=criteria, failures=failures, conformance=self.conformance, comparisons=comparisons)

    def scores(self, comparable: Mask | None = None) -> Scores:
        """As the gate sees it."""
        found = self.statistics(comparable)
        return Scores(
            scenarios=len(self.challenged), criteria={}, failure_rate=UNREAD, conformance=UNREAD, turns_per_conversation=0,
            statistics=found,
        )  # fmt: skip

    def first(self, count: int) -> "Played":
        """As it was when so many scenarios had been played."""
        references = {name: _first(arm, count) for name, arm in self.references.items()}
        hits = round(self.conformance.hits * count / self.conformance.of)
        return Played(_first(self.candidate, count), references, self.challenged[:count], Tally(hits=hits, of=count))


def _first(arm: Arm, count: int) -> Arm:
    return Arm(arm.scores[:count], arm.played[:count])


def play(rng: np.random.Generator, world: World, candidate: Sequence[float], **references: Sequence[float]) -> Played:
    """One evaluation of a candidate beside references, each with the true means of its criteria."""
    arms, challenged = draw(rng, world, [tuple(candidate), *(tuple(means) for means in references.values())])
    conformance = Tally(hits=int(rng.binomial(world.n, CONFORMANCE)), of=world.n)
    return Played(arms[0], dict(zip(references, arms[1:], strict=True)), challenged, conformance)


def passed(scores: Scores, attempt: int = 1, alpha: float = ALPHA) -> bool:
    """Whether the gate promotes."""
    return judge(scores, POLICY, attempt, alpha).result == "Pass"


def pass_rate(seed: int, world: World, candidate: Sequence[float], repeats: int) -> float:
    """How often a candidate is promoted at the first attempt."""
    rng = np.random.default_rng(seed)
    return sum(passed(play(rng, world, candidate, serving=MEANS).scores()) for _ in range(repeats)) / repeats


def pass_rates(seed: int, world: World, candidate: Sequence[float], repeats: int, levels: Sequence[float]) -> dict[float, float]:
    """How often a candidate is promoted at each level, whichever attempt may have it."""
    rng = np.random.default_rng(seed)
    found = [play(rng, world, candidate, serving=MEANS).scores() for _ in range(repeats)]
    return {level: sum(passed(scores, alpha=level / spend(1, 1)) for scores in found) / repeats for level in levels}


def worse_somewhere(seed: int, world: World, repeats: int) -> dict[str, float]:
    """For each criterion, how often a candidate that is worse by the margin there, and equal elsewhere, is promoted."""
    return {name: pass_rate(seed + i, world, shifted(-MARGIN, i), repeats) for i, name in enumerate(CRITERIA)}


def retried(seed: int, world: World, only: int, repeats: int) -> float:
    """How often such a candidate is promoted when it is trained and evaluated up to five times more."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        attempts = range(1, RETRIES + 2)
        return any(passed(play(rng, world, shifted(-MARGIN, only), serving=MEANS).scores(), attempt) for attempt in attempts)

    return sum(once() for _ in range(repeats)) / repeats


def creep(seed: int, world: World, only: int | None, repeats: int, *, anchored: bool) -> float:
    """How often ten generations, each a bit worse than what serves, bring a version beyond the margin into service."""
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
    """How often a candidate 0.30 worse everywhere passes when the edited procedure judges the old version unfairly."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        touched = rng.permutation(world.n) < round(world.n * TOUCHED)
        played = play(rng, world, shifted(-0.30), serving=MEANS)
        old = played.references["serving"]
        unfair = np.where(touched[:, None, None], np.maximum(1.0, old.scores + UNFAIR), old.scores)
        seen = replace(played, references={"serving": Arm(unfair, old.played)})
        return passed(seen.scores(~touched if untouched_only else None))

    return sum(once() for _ in range(repeats)) / repeats


def given_up(seed: int, world: World, candidate: Sequence[float], repeats: int) -> float:
    """How often one of the looks on the way ends the evaluation."""
    rng = np.random.default_rng(seed)

    def once() -> bool:
        played = play(rng, world, candidate, serving=MEANS)
        return any(futile(played.first(look).statistics(), POLICY) for look in range(BLOCK, world.n, BLOCK))

    return sum(once() for _ in range(repeats)) / repeats
