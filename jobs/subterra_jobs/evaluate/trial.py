"""May a candidate replace what serves? Paired non-inferiority on every criterion, floors, and a price for trying again.

Pure, and from sufficient statistics only: the same trial can be judged anew under another policy without playing anything.
docs/evaluation.md says why it decides so.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from subterra_api.gate import FEW, Check, blocked_branches
from subterra_api.v1alpha1.compilerun import Branch, GatePolicy, Verdict
from subterra_jobs.evaluate.bounds import (
    Discordant,
    Sample,
    Share,
    difference_bounds,
    mean_bounds,
    scenarios_to_decide,
    share_bounds,
)

FIRST_SHARE = 0.8
"""Most of alpha goes to the first attempt, since most candidates have only one."""
FUTILE_ALPHA = 0.001
"""A look before the end gives up only when the floor is this far out of reach."""
MANY = 100_000
"""So many scenarios are told as "more than"."""


@dataclass(frozen=True)
class Policy:
    """What a candidate must reach. ``margin`` is in points of a criterion, ``failure_margin`` a difference of rates."""

    margin: float = 0.25
    failure_margin: float = 0.06
    alpha: float = 0.05
    """For all attempts at one procedure together."""
    min_scenarios: int = 100
    max_missing: float = 0.02
    floors: GatePolicy = field(default_factory=GatePolicy)


@dataclass(frozen=True)
class Comparison:
    """Candidate minus reference on the same scenarios: each criterion's differences, and each judge's own mean difference."""

    against: str
    criteria: Mapping[str, Sample]
    judges: Mapping[str, tuple[float, ...]]
    failures: Discordant


@dataclass(frozen=True)
class Trial:
    """An evaluation as the gate sees it. ``attempt`` counts all attempts at this procedure's digest, the first is 1."""

    scenarios: int
    attempt: int
    criteria: Mapping[str, Sample]
    failures: Share
    conformance: Share
    branches: tuple[Branch, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    missing: float = 0.0
    """Share of the judgements that are missing for the judge's sake."""


@dataclass(frozen=True)
class _Measured:
    """A check, and what a plan for a larger trial needs: standard deviation and number of the values behind it."""

    check: Check
    sd: float
    n: int


def decide(trial: Trial, policy: Policy) -> Verdict:
    """Fail when a check fails, Pass when all pass (intersection-union: no correction for their number), else Inconclusive."""
    alpha = spend(policy.alpha, trial.attempt)
    measured = list(_measure(trial, policy, alpha))
    failed = [m.check for m in measured if m.check.result == "Fail"]
    blocked = blocked_branches(trial.branches, sum(branch.conversations >= FEW for branch in trial.branches), policy.floors)
    if failed or blocked:
        return Verdict(result="Fail", reasons=_first([*(f"{c.name}: {c.text}" for c in failed), *blocked]))
    unknown = [*_doubts(trial, policy), *_open(measured, trial, policy)]
    if unknown:
        return Verdict(result="Inconclusive", reasons=_first(unknown))
    passed = f"all {len(measured)} checks passed on {trial.scenarios} scenarios at a one-sided level of {alpha:.3g}"
    return Verdict(result="Pass", reasons=_first([passed, *_advice(trial, policy)]))


def spend(alpha: float, attempt: int) -> float:
    """The level of one attempt: a fixed share of what earlier ones left, so that any number of them have ``alpha`` together."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return alpha * FIRST_SHARE * (1 - FIRST_SHARE) ** (attempt - 1)


def futile(trial: Trial, policy: Policy) -> bool:
    """Whether playing on is a waste, at a look before all is played. There is no early success: looking often cannot promote."""
    return any(m.check.result == "Fail" for m in _measure(trial, policy, FUTILE_ALPHA))


def _measure(trial: Trial, policy: Policy, alpha: float) -> Iterator[_Measured]:
    """Every check with enough values to be made, each "higher is better"."""
    floors = policy.floors
    for name, sample in sorted(trial.criteria.items()):
        if sample.n >= FEW:
            yield _sample(name, sample, floors.min_score, alpha)
    kept = Share(trial.failures.of - trial.failures.hits, trial.failures.of)
    yield _share("success", kept, 1 - floors.max_failure_rate, alpha)
    yield _share("conformance", trial.conformance, floors.min_conformance, alpha)
    for comparison in trial.comparisons:
        yield from _compared(comparison, policy, alpha)


def _compared(comparison: Comparison, policy: Policy, alpha: float) -> Iterator[_Measured]:
    pairs = comparison.failures
    if pairs.of < FEW:
        return
    for name, sample in sorted(comparison.criteria.items()):
        if sample.n >= FEW:
            yield _sample(f"{name} against {comparison.against}", sample, -policy.margin, alpha)
    kept = difference_bounds(Discordant(pairs.better, pairs.worse, pairs.of), alpha)
    text = f"{kept.mean:+.1%} (interval {kept.low:+.1%} to {kept.high:+.1%}) against a margin of {-policy.failure_margin:.1%}"
    sd = math.sqrt((pairs.worse + pairs.better) / pairs.of - kept.mean**2)
    yield _Measured(Check(f"success against {comparison.against}", kept, -policy.failure_margin, text), sd, pairs.of)


def _sample(name: str, sample: Sample, floor: float, alpha: float) -> _Measured:
    found = mean_bounds(sample, alpha)
    text = f"mean {found.mean:.2f} (interval {found.low:.2f} to {found.high:.2f}) against {floor:.2f}"
    return _Measured(Check(name, found, floor, text), sample.sd, sample.n)


def _share(name: str, share: Share, floor: float, alpha: float) -> _Measured:
    found = share_bounds(share, alpha)
    text = f"{found.mean:.1%} (interval {found.low:.1%} to {found.high:.1%}) against a floor of {floor:.1%}"
    return _Measured(Check(name, found, floor, text), math.sqrt(found.mean * (1 - found.mean)), share.of)


def _doubts(trial: Trial, policy: Policy) -> Iterator[str]:
    """Why nothing may be concluded, whatever the bounds say."""
    if trial.scenarios < policy.min_scenarios:
        yield f"only {trial.scenarios} scenarios were played; {policy.min_scenarios} are the least that can promote"
    if trial.missing > policy.max_missing:
        yield f"{trial.missing:.1%} of the judgements are missing; at most {policy.max_missing:.0%} may be; judge again"
    for comparison in (each for each in trial.comparisons if each.failures.of >= FEW):
        for name, sample in sorted(comparison.criteria.items()):
            if sample.n < FEW:
                yield f"{name} against {comparison.against}: only {sample.n} scenarios can be compared; {FEW} are needed"
        for name, means in sorted(comparison.judges.items()):
            if min(means) <= -policy.margin:
                told = " and ".join(f"{mean:+.2f}" for mean in means)
                yield f"{name} against {comparison.against}: the judges' own differences are {told}; one alone is beyond the margin"


def _open(measured: list[_Measured], trial: Trial, policy: Policy) -> Iterator[str]:
    """Checks across their floor, with the scenarios that would decide at the level that the next attempt has."""
    alpha = spend(policy.alpha, trial.attempt + 1)
    for one in measured:
        if one.check.result == "Inconclusive":
            needed = scenarios_to_decide(one.check.interval.mean - one.check.floor, one.sd, alpha) * trial.scenarios / one.n
            told = f"about {needed:,.0f}" if needed < MANY else f"more than {MANY:,}"
            yield f"{one.check.name}: {one.check.text}; {told} scenarios would decide if this is how it is"


def _advice(trial: Trial, policy: Policy) -> Iterator[str]:
    """What a Pass does not say: comparisons with hardly anything to compare, where the floors decided, and rare branches."""
    for comparison in trial.comparisons:
        if comparison.failures.of < FEW:
            yield f"advisory: only {comparison.failures.of} scenarios can be compared with {comparison.against}; the floors decided"
    for branch in trial.branches:
        if branch.conversations < FEW and branch.failures > policy.floors.max_branch_failure_rate * branch.conversations:
            told = f"{branch.failures} of {branch.conversations} conversations, too few to block"
            yield f"advisory: branch {branch.hub} → {branch.to} failed in {told}"


def _first(reasons: list[str]) -> tuple[str, ...]:
    """As many as a status holds."""
    return tuple(reasons[:20])
