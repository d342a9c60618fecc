"""What a report tells of each arm (a model or baseline that played the scenarios) and of two arms side by side. Pure.

These figures describe; none of them decides.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.analysis.judge_agreement import kappa_interval, repeat_variance
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES, values_of
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, TASK, Judgement, Repeat, Result

Arms = Mapping[str, Sequence[Result]]
QUESTION_MARKS = "?？؟"
SEE_ALIKE = 30
"""Fewer conversations tell nothing about how far judges agree."""


def figures(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Scores and shares with their 95 % intervals, and what a conversation takes."""
    criteria = {name: values_of(results, name) for name in CRITERIA}
    judged = {name: values for name, values in criteria.items() if len(values) >= (MIN_CHALLENGES if name == GRACEFUL else 1)}
    return {
        "conversations": len(results),
        "unplayed": sum(result.dialogue.error is not None for result in results),
        "unjudged": sum(None in result.judgements for result in results),
        "challenges": sum(result.challenged for result in results),
        "criteria": {name: statistics.mean_interval(values, seed).model_dump() for name, values in judged.items()},
        "failureRate": statistics.share_interval(sum(r.failed for r in results), len(results)).model_dump(),
        "conformance": statistics.share_interval(sum(r.conformant for r in results), len(results)).model_dump(),
        "takes": takes(results),
    }


def takes(results: Sequence[Result]) -> dict[str, float | None]:
    """Means per played conversation; seconds with as many conversations at once as the evaluation had."""
    played = [result.dialogue for result in results if result.dialogue.error is None]
    replies = [reply for dialogue in played for reply in dialogue.replies]
    paid = [float(reply.usd) for reply in replies if reply.usd is not None]

    def each(total: float) -> float | None:
        return round(total / len(played), 4) if played else None

    def per_reply(values: Sequence[float], found: Callable[[Any], Any]) -> float | None:
        return round(float(found(values)), 4) if values else None

    seconds = [reply.seconds for reply in replies]
    return {
        "turns": each(len(replies)),
        "words": per_reply([len(reply.text.split()) for reply in replies], np.mean),
        "oneQuestion": per_reply([_questions(reply.text) == 1 for reply in replies], np.mean),
        "secondsPerReply": per_reply(seconds, np.mean),
        "secondsPerReplyP95": per_reply(seconds, lambda values: np.percentile(values, 95)),
        "seconds": each(sum(seconds)),
        "promptTokens": each(sum(reply.prompt_tokens for reply in replies)),
        "completionTokens": each(sum(reply.completion_tokens for reply in replies)),
        "usd": round(sum(paid) / len(played), 6) if paid else None,
    }


def _questions(text: str) -> int:
    return sum(text.count(mark) for mark in QUESTION_MARKS)


def against(candidate: Sequence[Result], other: Sequence[Result], name: str, seed: int) -> dict[str, Any]:
    """The candidate beside another arm, scenario by scenario, where both were played and judged and no edit lies between them.

    p-values are of Wilcoxon's test, adjusted for five looks (Holm); d is the mean difference in its standard deviations.
    """
    pairs = [(mine, theirs) for mine, theirs in zip(candidate, other, strict=True) if _comparable(mine, theirs)]
    sides = dict(_sides(pairs))
    adjusted = statistics.holm({criterion: statistics.wilcoxon(*both).p for criterion, both in sides.items()})
    lost = Counter((mine.failed, theirs.failed) for mine, theirs in pairs)
    return {
        "against": name, "scenarios": len(candidate), "compared": len(pairs),
        "touched": sum(any(each.scenario.touched for each in both) for both in zip(candidate, other, strict=True)),
        "criteria": {criterion: _compared(*both, seed) | {"p": adjusted[criterion]} for criterion, both in sides.items()},
        "failures": {"onlyCandidate": lost[True, False], "onlyOther": lost[False, True], "both": lost[True, True]},
    }  # fmt: skip


def _comparable(*both: Result) -> bool:
    return all(each.dialogue.error is None and None not in each.judgements and not each.scenario.touched for each in both)


def _sides(pairs: Sequence[tuple[Result, Result]]) -> Iterator[tuple[str, tuple[list[float], list[float]]]]:
    for name in CRITERIA:
        told = [pair for pair in pairs if name != GRACEFUL or any(each.challenged for each in pair)]
        if told:
            yield name, ([mine.score(name) for mine, _ in told], [theirs.score(name) for _, theirs in told])


def _compared(mine: list[float], theirs: list[float], seed: int) -> dict[str, Any]:
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    return {
        "n": len(mine), "candidate": float(np.mean(mine)), "other": float(np.mean(theirs)),
        "difference": statistics.mean_interval(differences, seed).model_dump(), "dz": statistics.cohens_dz(mine, theirs),
        "wins": sum(each > 0 for each in differences), "ties": differences.count(0),
        "losses": sum(each < 0 for each in differences),
    }  # fmt: skip


def judges_of(arms: Arms) -> tuple[str, ...]:
    """The fingerprints of the judges, in order. Raises ValueError when scores with unlike ones would be compared."""
    given = [result.judgements for results in arms.values() for result in results]
    found = [{each.judge for each in by_judge if each is not None} for by_judge in zip(*given, strict=True)]
    for place, known in enumerate(found, start=1):
        if len(known) > 1:
            raise ValueError(f"judge {place} has unlike fingerprints ({', '.join(sorted(known))}); judge all arms again")
    return tuple(next(iter(known), "none") for known in found)


def agreement(arms: Arms, repeats: Sequence[Repeat], names: Sequence[str], seed: int) -> dict[str, Any]:
    """How far the judges agree with each other (weighted kappa) and with themselves (standard deviation of repeated scores)."""
    both = [
        tuple(each for each in result.judgements if each is not None)
        for results in arms.values() for result in results if result.dialogue.error is None
    ]  # fmt: skip
    pairs = [judged for judged in both if len(judged) == 2]
    prints = judges_of(arms)
    return {
        "judges": [_judge(names, prints, place, arms, repeats) for place in range(len(prints))],
        "conversations": len(pairs),
        "kappa": {name: _kappa(name, pairs, seed) for name in CRITERIA} if len(pairs) >= SEE_ALIKE else {},
    }


def _judge(names: Sequence[str], prints: Sequence[str], place: int, arms: Arms, repeats: Sequence[Repeat]) -> dict[str, Any]:
    results = [result for each in arms.values() for result in each]
    given = [judged for result in results if (judged := result.judgements[place]) is not None]
    again = [repeat for repeat in repeats if repeat.judge == place]
    spread = repeat_variance([(each.first.scores[name], each.second.scores[name]) for each in again for name in CRITERIA])
    return {
        "name": names[place] if place < len(names) else "rules", "fingerprint": prints[place],
        "means": {name: float(np.mean([each.scores[name] for each in given])) for name in CRITERIA} if given else {},
        "missing": len(results) - len(given), "twice": len(again), "repeatSd": None if spread is None else spread**0.5,
    }  # fmt: skip


def _kappa(name: str, pairs: Sequence[tuple[Judgement, ...]], seed: int) -> dict[str, float]:
    first, second = ([float(judged[place].scores[name]) for judged in pairs] for place in (0, 1))
    return kappa_interval(first, second, np.random.default_rng(seed)).model_dump()


def elsewhere(arms: Arms, at: int) -> dict[str, float]:
    """Task Success of the other arms in the same scenario."""
    return {name: results[at].score(TASK) for name, results in list(arms.items())[1:]}
