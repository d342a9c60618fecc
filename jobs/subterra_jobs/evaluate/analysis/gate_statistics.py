"""Sufficient statistics that the gate decides by. Missing scores count against the candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subterra_api.v1alpha1.scores import Comparison, Difference, DiscordantPairs, Proportion, SampleStats, Statistics
from subterra_jobs.evaluate.judge.results import CRITERIA, FAILURE, GRACEFUL, HIGHEST, LOWEST, TASK, Result, counted
from subterra_jobs.evaluate.simulate.participants import CANDIDATE, REFERENCES

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ArmScores:
    """Scores of one arm: `scores[scenario, criterion, judge]`, NaN where missing; `played[scenario]` if simulated."""

    scores: Floats
    played: Mask


def compare(
    against: str,
    candidate: ArmScores,
    reference: ArmScores,
    *,
    challenged: Mask,
    comparable: Mask,
    criteria: Sequence[str] = CRITERIA,
) -> Comparison:
    """Paired comparison on `comparable` scenarios, by the mean of the judges; Graceful Handling on `challenged` ones only.

    A candidate's missing score counts as the lowest, a reference's as the highest.
    """
    mine, theirs = impute(candidate, LOWEST), impute(reference, HIGHEST)
    differences = mine - theirs
    rows = {name: comparable & challenged if name == GRACEFUL else comparable for name in criteria}
    by_criterion = {name: differences[rows[name], i] for i, name in enumerate(criteria) if rows[name].any()}
    task = list(criteria).index(TASK)
    failures = _discordant_pairs(failures_of(mine[comparable, task]), failures_of(theirs[comparable, task]))
    stats = {name: difference_stats(values) for name, values in by_criterion.items()}
    return Comparison(against=against, criteria=stats, failures=failures)


def candidate_summary(
    candidate: ArmScores, challenged: Mask, criteria: Sequence[str] = CRITERIA
) -> tuple[dict[str, SampleStats], Proportion]:
    """The candidate's own scores and failures, for the policy's floors."""
    scores = impute(candidate, LOWEST)
    means = scores.mean(axis=2)
    rows = {name: means[challenged, i] if name == GRACEFUL else means[:, i] for i, name in enumerate(criteria)}
    failed = failures_of(scores[:, list(criteria).index(TASK)])
    stats = {name: sample_stats(values) for name, values in rows.items() if len(values)}
    return stats, Proportion(hits=int(failed.sum()), of=len(failed))


def missing_share(*arms: ArmScores) -> float:
    """Share of missing judgements among those of played conversations."""
    gaps = np.concatenate([np.isnan(arm.scores[arm.played]).ravel() for arm in arms])
    return float(gaps.mean()) if len(gaps) else 0.0


def impute(arm: ArmScores, score: float) -> Floats:
    """All scores, with `score` where a conversation or judgement is missing."""
    return np.where(np.isnan(arm.scores) | ~arm.played[:, None, None], score, arm.scores)


def failures_of(task: Floats) -> Mask:
    """Mask of conversations whose Task Success, as the mean of the judges, is a failure."""
    return np.asarray(task.mean(axis=1) <= FAILURE)


def sample_stats(values: Floats) -> SampleStats:
    """Sufficient statistics of a mean."""
    return SampleStats(count=len(values), mean=rounded(values.mean()), sd=rounded(values.std(ddof=1)) if len(values) > 1 else 0.0)


def difference_stats(values: Floats) -> Difference:
    """Sufficient statistics of differences `values[scenario, judge]`."""
    mean = sample_stats(values.mean(axis=1))
    return Difference(count=mean.count, mean=mean.mean, sd=mean.sd, judges=tuple(rounded(each) for each in values.mean(axis=0)))


def rounded(value: float) -> float:
    """`value` with four decimals, because a termination message is small."""
    return round(float(value), 4)


def _discordant_pairs(mine: Mask, theirs: Mask) -> DiscordantPairs:
    return DiscordantPairs(worse=int((mine & ~theirs).sum()), better=int((~mine & theirs).sum()), of=len(mine))


def gate_statistics(arms: Mapping[str, Sequence[Result]]) -> Statistics:
    """The candidate's own statistics, and its differences to each reference on scenarios the edit does not affect.

    Every arm has the same scenarios in the same order. Baselines are ignored. Conversations that are left out count nowhere, and
    their scenarios are compared with no reference.
    """
    results = arms[CANDIDATE]
    references = {name: arm_scores(arms[name]) for name in REFERENCES if name in arms}
    candidate, challenged = arm_scores(results), _challenged_scenarios([results, *(arms[name] for name in references)])
    kept = _kept(results)
    criteria, failures = candidate_summary(ArmScores(candidate.scores[kept], candidate.played[kept]), challenged[kept])
    return Statistics(
        criteria=criteria,
        failures=failures,
        conformance=Proportion(hits=sum(r.conformant for r in counted(results)), of=int(kept.sum())),
        comparisons=tuple(
            compare(name, candidate, arm, challenged=challenged, comparable=kept & _comparable_scenarios(arms[name]))
            for name, arm in references.items()
        ),
        missing=rounded(missing_share(candidate, *references.values())),
    )


def arm_scores(results: Sequence[Result]) -> ArmScores:
    """Scores of one arm as an array, NaN where a judge gave none.

    A conversation that the model itself broke, for example by filling its context, counts as played and scores 1 in every arm.
    """
    scores = [
        [[np.nan if each is None else each.scores[name] for each in result.judgements] for name in CRITERIA] for result in results
    ]
    return ArmScores(np.array(scores, dtype=float), np.array([not result.conversation.lost for result in results]))


def _comparable_scenarios(reference: Sequence[Result]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of scenarios that no edit since the reference was compiled affects, and that are not left out of the reference's."""
    return np.array([not result.scenario.affected_by_edit and not result.left_out for result in reference])


def _kept(results: Sequence[Result]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of conversations that are not left out."""
    return np.array([not result.left_out for result in results])


def _challenged_scenarios(arms: Sequence[Sequence[Result]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of scenarios in which some arm was challenged."""
    return np.array([any(result.challenged for result in same) for same in zip(*arms, strict=True)])
