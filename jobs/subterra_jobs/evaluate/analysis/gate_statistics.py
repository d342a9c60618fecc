"""Sufficient statistics that the gate decides by. What is missing never helps the candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subterra_api.v1alpha1.scores import AffectedScenarios, Comparison, Difference, Proportion, SampleStats, Statistics
from subterra_core.gate.check_result import MIN_SAMPLE
from subterra_core.gate.comparison_checks import NEEDS_PROCEDURE
from subterra_core.gate.verdict import FORMAT
from subterra_jobs.evaluate.analysis.paired_scores import (
    ArmScores,
    Ints,
    Mask,
    arm_scores,
    difference_stats,
    differences,
    discordant_pairs,
    failures_of,
    missing_share,
    proportion,
    rounded,
    sample_stats,
)
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, HIGHEST, LOWEST, TASK, Result
from subterra_jobs.evaluate.simulate.participants import CANDIDATE, IN_CONTEXT, REFERENCES


@dataclass(frozen=True)
class Scope:
    """Which scenarios a comparison is made on: `common` ones that both played and that count; `comparable` ones of these, which no
    edit affects; `challenged` ones, for Graceful Handling. `customers` numbers them, equal ones alike."""

    challenged: Mask
    comparable: Mask
    common: Mask | None = None
    customers: Ints | None = None
    scenarios: int | None = None
    """Number of scenarios that count; that of `common` if not given."""

    def rows(self, name: str) -> Mask:
        """The scenarios on which a criterion is compared."""
        rows = self.comparable if self.common is None or name in NEEDS_PROCEDURE else self.common
        return rows & self.challenged if name == GRACEFUL else rows

    def of(self, rows: Mask) -> Ints | None:
        """Customers of some scenarios; `None` if all are different."""
        if self.customers is None:
            return None
        chosen = self.customers[rows]
        return chosen if len(np.unique(chosen)) < len(chosen) else None

    def count(self, rows: Mask) -> int:
        """Number of different customers."""
        chosen = self.of(rows)
        return int(rows.sum()) if chosen is None else len(np.unique(chosen))


def compare(
    against: str,
    candidate: ArmScores,
    reference: ArmScores,
    scope: Scope,
    *,
    conformant: tuple[Mask, Mask] | None = None,
    criteria: Sequence[str] = CRITERIA,
) -> Comparison:
    """Paired comparison by the mean of the judges; `conformant` tells it of candidate and reference."""
    means, by_judge = differences(candidate, reference)
    task, rows, every = list(criteria).index(TASK), scope.comparable, scope.comparable if scope.common is None else scope.common
    mine, theirs = failures_of(candidate.means(LOWEST)[:, task]), failures_of(reference.means(HIGHEST)[:, task])
    followed = None if conformant is None else (~conformant[0][rows], ~conformant[1][rows])
    return Comparison(
        against=against,
        criteria={
            name: difference_stats(means[chosen, i], by_judge[chosen, i], scope.of(chosen))
            for i, name in enumerate(criteria)
            if (chosen := scope.rows(name)).any()
        },
        failures=discordant_pairs(mine[rows], theirs[rows], scope.of(rows)),
        conformance=None if followed is None else discordant_pairs(*followed, scope.of(rows)),
        scenarios=scope.count(every) if scope.scenarios is None else scope.scenarios,
        common=scope.count(every),
    )


def candidate_summary(
    candidate: ArmScores, scope: Scope, criteria: Sequence[str] = CRITERIA
) -> tuple[dict[str, SampleStats], Proportion]:
    """The candidate's own scores and failures on the scope's comparable scenarios, for the policy's floors."""
    means, kept = candidate.means(LOWEST), scope.comparable
    rows = {name: kept & scope.challenged if name == GRACEFUL else kept for name in criteria}
    stats = {name: sample_stats(means[rows[name], i], scope.of(rows[name])) for i, name in enumerate(criteria) if rows[name].any()}
    return stats, proportion(failures_of(means[kept, list(criteria).index(TASK)]), scope.of(kept))


def gate_statistics(arms: Mapping[str, Sequence[Result]]) -> Statistics:
    """The candidate's own statistics, and its differences to each reference.

    Every arm has the same scenarios in the same order. Of the baselines only the first in-context one is read, where an edit leaves
    nothing else to compare with. Conversations that are left out count nowhere, and their scenarios are compared with no reference.
    """
    results = arms[CANDIDATE]
    references = {name: arms[name] for name in REFERENCES if name in arms}
    candidate, kept, customers = arm_scores(results), _kept(results), _customers(results)
    own = Scope(_challenged_scenarios([results, *references.values()]), kept, customers=customers)
    criteria, failures = candidate_summary(candidate, own)
    followed = np.array([result.conformant for result in results])
    return Statistics(
        criteria=criteria,
        failures=failures,
        conformance=proportion(followed[kept], own.of(kept)),
        comparisons=tuple(
            compare(
                name,
                candidate,
                arm_scores(of_arm),
                _scope(own, of_arm),
                conformant=(followed, np.array([result.conformant for result in of_arm])),
            )
            for name, of_arm in references.items()
        ),
        missing=rounded(missing_share(candidate, *(arm_scores(of_arm) for of_arm in references.values()))),
        format=FORMAT,
        repeated=int(kept.sum()) - own.count(kept),
        affected=_affected(arms, own, candidate),
    )


def _scope(own: Scope, reference: Sequence[Result]) -> Scope:
    """The scenarios on which the candidate is compared with a reference."""
    common, absent = own.comparable & _kept(reference), np.array([result.absent for result in reference])
    scenarios = own.count(common | (own.comparable & absent))
    return Scope(own.challenged, common & ~_edited(reference), common, own.customers, scenarios)


def _affected(arms: Mapping[str, Sequence[Result]], own: Scope, candidate: ArmScores) -> AffectedScenarios | None:
    """The candidate where an edit since the first reference changed what is right; `None` if there is none."""
    reference = next((arms[name] for name in REFERENCES if name in arms), None)
    if reference is None or not (rows := own.comparable & _edited(reference)).any():
        return None
    scope = Scope(own.challenged, rows, customers=own.customers)
    criteria, failures = candidate_summary(candidate, scope)
    followed = np.array([result.conformant for result in arms[CANDIDATE]])
    return AffectedScenarios(
        criteria={name: sample for name, sample in criteria.items() if name in NEEDS_PROCEDURE},
        failures=failures,
        conformance=proportion(followed[rows], scope.of(rows)),
        in_context=_against_in_context(arms, reference, own, rows),
    )


def _against_in_context(
    arms: Mapping[str, Sequence[Result]], reference: Sequence[Result], own: Scope, rows: Mask
) -> dict[str, Difference]:
    """Differences to the first in-context baseline on `rows`, less those that the reference has where no edit applies.

    The baseline has the edited procedure in its prompt, so it is judged fairly everywhere. What the reference lost against it
    before the edit is no loss of the candidate.
    """
    baseline = next((of_arm for name, of_arm in arms.items() if name.startswith(IN_CONTEXT)), None)
    if baseline is None:
        return {}
    played = _kept(baseline)
    here, before = rows & played, own.comparable & played & _kept(reference) & ~_edited(reference)
    if here.sum() < MIN_SAMPLE or before.sum() < MIN_SAMPLE:
        return {}
    yardstick = arm_scores(baseline)
    now, then = (differences(arm_scores(each), yardstick)[0] for each in (arms[CANDIDATE], reference))
    return {
        name: _less(sample_stats(now[here, i], own.of(here)), sample_stats(then[before, i], own.of(before)))
        for i, name in enumerate(CRITERIA)
        if name in NEEDS_PROCEDURE
    }


def _less(now: SampleStats, then: SampleStats) -> Difference:
    """The difference of two means of different scenarios, as of `now.count` values; a baseline that was worse adds nothing."""
    sd = np.sqrt(now.sd**2 + then.sd**2 * now.count / then.count)
    return Difference(count=now.count, mean=rounded(now.mean - min(0.0, then.mean)), sd=rounded(sd))


def _edited(reference: Sequence[Result]) -> Mask:
    """Mask of scenarios that an edit since the reference was compiled affects."""
    return np.array([result.scenario.affected_by_edit for result in reference])


def _kept(results: Sequence[Result]) -> Mask:
    """Mask of conversations that are not left out."""
    return np.array([not result.left_out for result in results])


def _customers(results: Sequence[Result]) -> Ints:
    """Numbers of the customers; equal ones have the same."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(result.scenario.customer, len(numbers)) for result in results])


def _challenged_scenarios(arms: Sequence[Sequence[Result]]) -> Mask:
    """Mask of scenarios in which some arm was challenged."""
    return np.array([any(result.challenged for result in same) for same in zip(*arms, strict=True)])
