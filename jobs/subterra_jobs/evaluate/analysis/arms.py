"""Descriptive statistics of each arm and of pairs of arms for the report. Pure.

None of them decides anything; the gate has its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.analysis.judge_agreement import kappa_interval, repeat_variance
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES, criterion_scores
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, HIGHEST, TASK, ArmResults, Judgement, Repeat, Result, counted

QUESTION_MARKS = "?？؟"
MIN_AGREEMENT_PAIRS = 30
"""Agreement of judges is not computed from fewer conversations."""


def arm_summary(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Scores and shares of one arm with 95 % intervals, without conversations that are left out, and its cost per conversation."""
    kept = counted(results)
    criteria = {name: criterion_scores(kept, name) for name in CRITERIA}
    judged = {name: values for name, values in criteria.items() if len(values) >= (MIN_CHALLENGES if name == GRACEFUL else 1)}
    return {
        "conversations": len(results),
        "leftOut": len(results) - len(kept),
        "unplayed": sum(result.conversation.error is not None for result in results),
        "unjudged": sum(None in result.judgements for result in results),
        "challenges": sum(result.challenged for result in results),
        "criteria": {name: statistics.mean_interval(values, seed).model_dump() for name, values in judged.items()},
        "failureRate": statistics.share_interval(sum(r.failed for r in kept), len(kept)).model_dump(),
        "conformance": statistics.share_interval(sum(r.conformant for r in kept), len(kept)).model_dump(),
        "takes": cost_per_conversation(results),
    }


def cost_per_conversation(results: Sequence[Result]) -> dict[str, float | None]:
    """Means per finished conversation; seconds are measured under the evaluation's concurrency."""
    finished = [result.conversation for result in results if result.conversation.error is None]
    replies = [reply for conversation in finished for reply in conversation.replies]
    paid = [float(reply.usd) for reply in replies if reply.usd is not None]

    def per_conversation(total: float) -> float | None:
        return round(total / len(finished), 4) if finished else None

    def per_reply(values: Sequence[float], statistic: Callable[[Any], Any]) -> float | None:
        return round(float(statistic(values)), 4) if values else None

    seconds = [reply.seconds for reply in replies]
    return {
        "turns": per_conversation(len(replies)),
        "words": per_reply([len(reply.text.split()) for reply in replies], np.mean),
        "oneQuestion": per_reply([question_count(reply.text) == 1 for reply in replies], np.mean),
        "secondsPerReply": per_reply(seconds, np.mean),
        "secondsPerReplyP95": per_reply(seconds, lambda values: np.percentile(values, 95)),
        "seconds": per_conversation(sum(seconds)),
        "promptTokens": per_conversation(sum(reply.prompt_tokens for reply in replies)),
        "completionTokens": per_conversation(sum(reply.completion_tokens for reply in replies)),
        "usd": round(sum(paid) / len(finished), 6) if paid else None,
    }


def question_count(text: str) -> int:
    """Number of question marks, of any script that has its own."""
    return sum(text.count(mark) for mark in QUESTION_MARKS)


def compare_with(candidate: Sequence[Result], other: Sequence[Result], name: str, seed: int) -> dict[str, Any]:
    """Paired comparison of the candidate with another arm, on scenarios that were played in both, not left out and not affected by
    an edit. A judgement that is missing counts as in the gate.

    p-values are of Wilcoxon's test, adjusted for five criteria (Holm); `dz` is the mean difference in its standard deviations.
    """
    pairs = [(mine, theirs) for mine, theirs in zip(candidate, other, strict=True) if _comparable(mine, theirs)]
    sides = dict(_paired_scores(pairs))
    adjusted = statistics.holm({criterion: statistics.wilcoxon(*both).p for criterion, both in sides.items()})
    failed = Counter((mine.failed, theirs.failed and _judged(theirs)) for mine, theirs in pairs)
    return {
        "against": name,
        "scenarios": len(candidate),
        "compared": len(pairs),
        "touched": sum(any(each.scenario.affected_by_edit for each in both) for both in zip(candidate, other, strict=True)),
        "criteria": {criterion: _paired_summary(*both, seed) | {"p": adjusted[criterion]} for criterion, both in sides.items()},
        "failures": {"onlyCandidate": failed[True, False], "onlyOther": failed[False, True], "both": failed[True, True]},
    }


def paired_sides(candidate: Sequence[Result], other: Sequence[Result]) -> dict[str, tuple[list[float], list[float]]]:
    """Scores of both arms by criterion, on the pairs of `compare_with`, whose missing judgements count as there."""
    return dict(_paired_scores([pair for pair in zip(candidate, other, strict=True) if _comparable(*pair)]))


def _comparable(*both: Result) -> bool:
    return all(each.conversation.error is None and not each.scenario.affected_by_edit and not each.left_out for each in both)


def _paired_scores(pairs: Sequence[tuple[Result, Result]]) -> Iterator[tuple[str, tuple[list[float], list[float]]]]:
    for name in CRITERIA:
        relevant = [pair for pair in pairs if name != GRACEFUL or any(result.challenged for result in pair)]
        if relevant:
            scored = [_scored_alike(*pair, name) for pair in relevant]
            yield name, ([mine for mine, _ in scored], [theirs for _, theirs in scored])


def _scored_alike(mine: Result, theirs: Result, name: str) -> tuple[float, float]:
    """Both scores by the judges who scored both. Without any, a gap counts against the candidate, as in the gate."""
    pairs = zip(mine.judgements, theirs.judgements, strict=True)
    both = [(a.scores[name], b.scores[name]) for a, b in pairs if a is not None and b is not None]
    if both:
        return sum(a for a, _ in both) / len(both), sum(b for _, b in both) / len(both)
    return mine.score(name), theirs.score(name) if _judged(theirs) else HIGHEST


def _judged(result: Result) -> bool:
    return any(each is not None for each in result.judgements)


def _paired_summary(mine: list[float], theirs: list[float], seed: int) -> dict[str, Any]:
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    return {
        "n": len(mine),
        "candidate": float(np.mean(mine)),
        "other": float(np.mean(theirs)),
        "difference": statistics.mean_interval(differences, seed).model_dump(),
        "dz": statistics.cohens_dz(mine, theirs),
        "wins": sum(difference > 0 for difference in differences),
        "ties": differences.count(0),
        "losses": sum(difference < 0 for difference in differences),
    }


def judge_fingerprints(arms: ArmResults) -> tuple[str, ...]:
    """Fingerprints of the judges, in order. Raises ValueError when scores with different ones would be compared."""
    judgements = [result.judgements for results in arms.values() for result in results]
    by_judge = [{each.judge for each in column if each is not None} for column in zip(*judgements, strict=True)]
    for number, prints in enumerate(by_judge, start=1):
        if len(prints) > 1:
            raise ValueError(f"judge {number} has different fingerprints ({', '.join(sorted(prints))}); judge all arms again")
    return tuple(next(iter(prints), "none") for prints in by_judge)


def agreement_summary(arms: ArmResults, repeats: Sequence[Repeat], names: Sequence[str], seed: int) -> dict[str, Any]:
    """Agreement between judges (weighted kappa) and repeatability of each (standard deviation of repeated scores)."""
    judgements = [
        tuple(judgement for judgement in result.judgements if judgement is not None)
        for results in arms.values()
        for result in results
        if result.conversation.error is None
    ]
    pairs = [both for both in judgements if len(both) == 2]
    prints = judge_fingerprints(arms)
    return {
        "judges": [_judge_summary(index, names, prints, arms, repeats) for index in range(len(prints))],
        "conversations": len(pairs),
        "kappa": {name: _criterion_kappa(name, pairs, seed) for name in CRITERIA} if len(pairs) >= MIN_AGREEMENT_PAIRS else {},
    }


def _judge_summary(
    index: int, names: Sequence[str], prints: Sequence[str], arms: ArmResults, repeats: Sequence[Repeat]
) -> dict[str, Any]:
    results = [result for of_arm in arms.values() for result in of_arm]
    given = [judgement for result in results if (judgement := result.judgements[index]) is not None]
    repeated = [repeat for repeat in repeats if repeat.judge == index]
    variance = repeat_variance([(both.first.scores[name], both.second.scores[name]) for both in repeated for name in CRITERIA])
    return {
        "name": names[index] if index < len(names) else "rules",
        "fingerprint": prints[index],
        "means": {name: float(np.mean([judgement.scores[name] for judgement in given])) for name in CRITERIA} if given else {},
        "missing": len(results) - len(given),
        "twice": len(repeated),
        "repeatSd": None if variance is None else variance**0.5,
    }


def _criterion_kappa(name: str, pairs: Sequence[tuple[Judgement, ...]], seed: int) -> dict[str, float]:
    first, second = ([float(both[index].scores[name]) for both in pairs] for index in (0, 1))
    return kappa_interval(first, second, np.random.default_rng(seed)).model_dump()


def other_arms_task_success(arms: ArmResults, index: int) -> dict[str, float]:
    """Task Success of the other arms in the same scenario, by arm."""
    return {name: results[index].score(TASK) for name, results in list(arms.items())[1:]}
