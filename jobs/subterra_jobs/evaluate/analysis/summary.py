"""From dialogues to figures: one result per scenario, then the scores that the gate reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subterra_api.v1alpha1.scores import Branch, Interval, Scores
from subterra_core.drawing.summary import Failures, Visits
from subterra_core.gate.verdict import FEW
from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.analysis.gate_statistics import rounded, sufficient
from subterra_jobs.evaluate.judge.conformance import Nodes
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, Result
from subterra_jobs.evaluate.scenarios.path_cover import hops
from subterra_jobs.evaluate.simulate.participants import CANDIDATE

MIN_CHALLENGES = 5
"""Fewer conversations say nothing about Graceful Handling; the criterion is then left out."""
WORST_BRANCHES, WORST_RARE = 5, 3
"""So many go into the termination message, of those with enough conversations to be judged and of others; the report has all."""


def values_of(results: Sequence[Result], criterion: str) -> list[float]:
    """A criterion's scores; Graceful Handling only where the customer posed a challenge, since it is capped elsewhere."""
    return [r.score(criterion) for r in results if criterion != GRACEFUL or r.challenged]


def summarise(arms: Mapping[str, Sequence[Result]], seed: int) -> Scores:
    """What the gate needs, from the arms ``candidate`` and, where they were played, ``serving`` and ``anchor``; others have no say.

    A conversation that could not be played counts as failed everywhere.
    """
    results = arms[CANDIDATE]
    criteria = {name: values_of(results, name) for name in CRITERIA}
    if len(criteria[GRACEFUL]) < MIN_CHALLENGES:
        del criteria[GRACEFUL]
    played = [r for r in results if r.dialogue.error is None]
    mentions = [mention.exact for r in results for mention in r.replay.mentions]
    found = branches(results)
    judged = [branch for branch in found if branch.conversations >= FEW]
    rare = [branch for branch in found if branch.conversations < FEW and branch.failures]
    return Scores(
        scenarios=len(results),
        criteria={name: _rounded(statistics.mean_interval(values, seed)) for name, values in criteria.items()},
        failure_rate=_rounded(statistics.share_interval(sum(r.failed for r in results), len(results))),
        conformance=_rounded(statistics.share_interval(sum(r.conformant for r in results), len(results))),
        turns_per_conversation=round(sum(len(r.dialogue.replies) for r in played) / max(1, len(played)), 4),
        slots_exact=round(sum(mentions) / len(mentions), 4) if mentions else None,
        branches_judged=len(judged), worst_branches=(*judged[:WORST_BRANCHES], *rare[:WORST_RARE]), statistics=sufficient(arms),
    )  # fmt: skip


def visits(results: Sequence[Result]) -> Visits:
    """How many conversations should have come to each node and edge, and how many of these failed."""
    nodes, edges = (Counter[str](), Counter[str]()), (Counter[tuple[str, str]](), Counter[tuple[str, str]]())
    for result in results:
        for kept in range(1 + result.failed):
            nodes[kept].update(set(result.replay.path))
            edges[kept].update(hops(result.replay.path))
    return Visits(len(results), nodes[0], edges[0], Failures(nodes[1], edges[1]))


def branches(results: Sequence[Result]) -> list[Branch]:
    """How the conversations on each way out of a hub ended; first those that surely fail most, by Wilson's lower bound."""
    seen = visits(results)
    assert seen.failures is not None
    ways = Counter(hub for hub, _ in seen.edges)
    found = [
        Branch(hub=hub, to=to, conversations=count, failures=seen.failures.edges.get((hub, to), 0))
        for (hub, to), count in sorted(seen.edges.items()) if ways[hub] > 1
    ]  # fmt: skip
    return sorted(found, key=lambda branch: -statistics.share_interval(branch.failures, branch.conversations).low)


def _rounded(value: Interval) -> Interval:
    return Interval(mean=rounded(value.mean), low=rounded(value.low), high=rounded(value.high))


def compare_seen(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Seen against held-out values, criterion by criterion: unpaired, since the customers differ. Adjusted for five looks."""
    seen = [r for r in results if not r.scenario.unseen]
    unseen = [r for r in results if r.scenario.unseen]
    sides = {name: (values_of(seen, name), values_of(unseen, name)) for name in CRITERIA}
    sides = {name: both for name, both in sides.items() if both[0] and both[1]}
    adjusted = statistics.holm({name: statistics.mann_whitney(*both).p for name, both in sides.items()})
    return [
        {"criterion": name, "seen": float(np.mean(a)), "unseen": float(np.mean(b)), "seenN": len(a), "unseenN": len(b),
         "p": adjusted[name], "cohensD": statistics.cohens_d(a, b)}
        for name, (a, b) in sides.items()
    ]  # fmt: skip


def transitions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The first illegal transitions, the most frequent first."""
    counts: Counter[tuple[str, Nodes, Nodes]] = Counter()
    for result in results:
        if result.dialogue.error is None and (wrong := result.replay.violation) is not None:
            counts[wrong.hub, wrong.expected, wrong.got] += 1
    asked = Counter((turn.prescribed.hub, turn.prescribed.nodes) for r in results for turn in r.replay.turns)
    return [
        {"hub": hub, "expected": list(expected), "got": list(got), "count": count, "of": asked[hub, expected]}
        for (hub, expected, got), count in counts.most_common()
    ]
