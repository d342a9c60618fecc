"""From two arms' scores of the same scenarios to what the gate reads. What is missing counts against the candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subterra_api.v1alpha1.scores import Comparison, Difference, Discordant, Sample, Statistics, Tally
from subterra_jobs.evaluate.judge.results import CRITERIA, FAILURE, GRACEFUL, HIGHEST, LOWEST, TASK, Result
from subterra_jobs.evaluate.simulate.participants import CANDIDATE, REFERENCES

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Arm:
    """One model's conversations: ``scores[scenario, criterion, judge]`` is NaN where there is none, ``played`` says which were."""

    scores: Floats
    played: Mask


def compare(
    against: str, candidate: Arm, reference: Arm, *, challenged: Mask, comparable: Mask, criteria: Sequence[str] = CRITERIA
) -> Comparison:
    """The comparison on the comparable scenarios, by the mean of the judges; Graceful Handling on challenged ones only.

    A candidate's missing score counts as the lowest, a reference's as the highest.
    """
    mine, theirs = filled(candidate, LOWEST), filled(reference, HIGHEST)
    differences = mine - theirs
    rows = {name: comparable & challenged if name == GRACEFUL else comparable for name in criteria}
    found = {name: differences[rows[name], i] for i, name in enumerate(criteria) if rows[name].any()}
    task = list(criteria).index(TASK)
    failures = _discordant(failed(mine[comparable, task]), failed(theirs[comparable, task]))
    return Comparison(against=against, criteria={name: difference(values) for name, values in found.items()}, failures=failures)


def own(candidate: Arm, challenged: Mask, criteria: Sequence[str] = CRITERIA) -> tuple[dict[str, Sample], Tally]:
    """The candidate's own scores and failures, for the floors."""
    scores = filled(candidate, LOWEST)
    means = scores.mean(axis=2)
    rows = {name: means[challenged, i] if name == GRACEFUL else means[:, i] for i, name in enumerate(criteria)}
    lost = failed(scores[:, list(criteria).index(TASK)])
    return {name: sample(values) for name, values in rows.items() if len(values)}, Tally(hits=int(lost.sum()), of=len(lost))


def missing(*arms: Arm) -> float:
    """Share of the judgements of played conversations that the judges did not give."""
    gaps = np.concatenate([np.isnan(arm.scores[arm.played]).ravel() for arm in arms])
    return float(gaps.mean()) if len(gaps) else 0.0


def filled(arm: Arm, score: float) -> Floats:
    """All scores; what was not played or not judged has this one."""
    return np.where(np.isnan(arm.scores) | ~arm.played[:, None, None], score, arm.scores)


def failed(task: Floats) -> Mask:
    """Conversations whose Task Success, as the mean of the judges, is a failure."""
    return np.asarray(task.mean(axis=1) <= FAILURE)


def sample(values: Floats) -> Sample:
    """The sufficient statistics of a mean."""
    return Sample(count=len(values), mean=rounded(values.mean()), sd=rounded(values.std(ddof=1)) if len(values) > 1 else 0.0)


def difference(values: Floats) -> Difference:
    """Those of differences, ``values[scenario, judge]``."""
    mean = sample(values.mean(axis=1))
    return Difference(count=mean.count, mean=mean.mean, sd=mean.sd, judges=tuple(rounded(each) for each in values.mean(axis=0)))


def rounded(value: float) -> float:
    """Four digits: a termination message is small."""
    return round(float(value), 4)


def _discordant(mine: Mask, theirs: Mask) -> Discordant:
    return Discordant(worse=int((mine & ~theirs).sum()), better=int((~mine & theirs).sum()), of=len(mine))


def sufficient(arms: Mapping[str, Sequence[Result]]) -> Statistics:
    """The candidate's own figures, and its differences to each reference on scenarios that the edit does not touch.

    Every arm has the same scenarios in the same order. Arms of other names have no say.
    """
    results = arms[CANDIDATE]
    references = {name: arm_of(arms[name]) for name in REFERENCES if name in arms}
    candidate, challenged = arm_of(results), _challenged([results, *(arms[name] for name in references)])
    criteria, failures = own(candidate, challenged)
    return Statistics(
        criteria=criteria, failures=failures, conformance=Tally(hits=sum(r.conformant for r in results), of=len(results)),
        comparisons=tuple(
            compare(name, candidate, arm, challenged=challenged, comparable=_comparable(arms[name]))
            for name, arm in references.items()
        ),
        missing=rounded(missing(candidate, *references.values())),
    )  # fmt: skip


def arm_of(results: Sequence[Result]) -> Arm:
    """One model's results as numbers; NaN where a judge gave none.

    What a model made unplayable itself, as one does that talks until its context is full, was played, and scores 1 in every arm.
    """
    scores = [
        [[np.nan if each is None else each.scores[name] for each in result.judgements] for name in CRITERIA] for result in results
    ]
    return Arm(np.array(scores, dtype=float), np.array([not result.dialogue.lost for result in results]))


def _comparable(reference: Sequence[Result]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Scenarios in which no edit since this reference was compiled changes what is right."""
    return np.array([not result.scenario.touched for result in reference])


def _challenged(arms: Sequence[Sequence[Result]]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Scenarios in which some arm had something to handle."""
    return np.array([any(result.challenged for result in same) for same in zip(*arms, strict=True)])
