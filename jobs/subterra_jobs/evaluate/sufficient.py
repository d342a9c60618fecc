"""From everybody's results to the statistics that the gate decides by."""

from collections.abc import Mapping, Sequence

import numpy as np

from subterra_api.v1alpha1.scores import Statistics, Tally
from subterra_jobs.evaluate.analysis.gate_statistics import Arm, compare, missing, own, rounded
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_judge import CRITERIA

CANDIDATE, REFERENCES = "candidate", ("serving", "anchor")


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
