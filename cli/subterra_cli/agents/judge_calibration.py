"""What people's scores say about each judge of a sheet, and about all of them together, which is what the gate reads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_cli.agents.people_scores import ScoredConversation, ScoredSheet
from subterra_core.judge_certification.certificate import Bounded, Certificate, Opinion, certify
from subterra_core.judge_certification.people_agreement import Agreement, ScorePair, agreement
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, TASK
from subterra_jobs.evaluate.judge.rubric import RUBRIC

TOGETHER = "mean of the judges"
_TITLES = {criterion.name: criterion.title for criterion in RUBRIC}
_Score = Callable[[ScoredConversation, str], float | None]


@dataclass(frozen=True)
class CalibratedJudge:
    """One judge, or all together."""

    name: str
    fingerprint: str | None
    agreement: Mapping[str, Agreement]
    """By criterion; without those that people scored nowhere."""
    certificate: Certificate


@dataclass(frozen=True)
class Calibration:
    """All judges of a sheet. `deciding` is what the gate reads: the only judge, or the mean of several."""

    deciding: CalibratedJudge
    single: tuple[CalibratedJudge, ...]
    conversations: int
    least_sensitivity: float
    least_specificity: float

    @property
    def certified(self) -> bool:
        """Whether what the gate reads reaches the least that is asked."""
        return self.deciding.certificate.certified(self.least_sensitivity, self.least_specificity)

    def data(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "certified": self.certified,
            "conversations": self.conversations,
            "leastSensitivity": self.least_sensitivity,
            "leastSpecificity": self.least_specificity,
            "judges": [{"deciding": one is self.deciding, **_judge_data(one)} for one in self._shown()],
        }

    def lines(self) -> Iterator[str]:
        """For people: the tables of every judge, and whether the judge is certified, with the reason."""
        for one in self._shown():
            yield from _judge_lines(one)
            yield ""
        found = self.deciding.certificate
        short = [
            f"{name} is at least {rate.low:.1%}, below {least:.1%}"
            for name, rate, least in (
                ("sensitivity", found.sensitivity, self.least_sensitivity),
                ("specificity", found.specificity, self.least_specificity),
            )
            if rate.low < least
        ]
        advice = "; more scored conversations, or those of a larger evaluation, raise a bound whose share is well above it"
        yield f"{self.deciding.name}: " + (f"not certified: {' and '.join(short)}{advice}" if short else "certified")

    def _shown(self) -> tuple[CalibratedJudge, ...]:
        return self.single if self.deciding in self.single else (*self.single, self.deciding)


def calibrate_judges(sheet: ScoredSheet, least_sensitivity: float, least_specificity: float) -> Calibration:
    """Compares every judge with people, and the mean of the judges if there are several."""

    def single(index: int) -> CalibratedJudge:
        fingerprint = sheet.fingerprints[index] if sheet.fingerprints else None
        return _calibrated(sheet, sheet.judges[index], fingerprint, lambda one, name: one.judges[index].get(name))

    judges = tuple(map(single, range(len(sheet.judges))))
    deciding = judges[0] if len(judges) == 1 else _calibrated(sheet, TOGETHER, None, _mean)
    return Calibration(deciding, judges, len(sheet.conversations), least_sensitivity, least_specificity)


def _mean(conversation: ScoredConversation, criterion: str) -> float | None:
    scores = [judge[criterion] for judge in conversation.judges if criterion in judge]
    return sum(scores) / len(scores) if scores else None


def _calibrated(sheet: ScoredSheet, name: str, fingerprint: str | None, score: _Score) -> CalibratedJudge:
    by_criterion = {criterion: _pairs(sheet, criterion, score) for criterion in CRITERIA}
    opinions = [
        Opinion(one.people[TASK], given, one.flagged) for one in sheet.conversations if (given := score(one, TASK)) is not None
    ]
    return CalibratedJudge(
        name,
        fingerprint,
        {criterion: agreement(pairs) for criterion, pairs in by_criterion.items() if pairs},
        certify(opinions, sheet.population),
    )


def _pairs(sheet: ScoredSheet, criterion: str, score: _Score) -> list[ScorePair]:
    """Without challenge Graceful Handling says nothing, for the gate as here."""
    return [
        ScorePair(given, one.people[criterion], one.weight)
        for one in sheet.conversations
        if criterion in one.people and (one.challenged or criterion != GRACEFUL) and (given := score(one, criterion)) is not None
    ]


def _judge_data(judge: CalibratedJudge) -> dict[str, Any]:
    return {
        "name": judge.name,
        "fingerprint": judge.fingerprint,
        "sensitivity": _rate_data(judge.certificate.sensitivity),
        "specificity": _rate_data(judge.certificate.specificity),
        "agreement": {
            name: {
                "conversations": found.conversations,
                "kappa": found.kappa,
                "exact": found.exact,
                "withinOne": found.within_one,
                "bias": found.bias,
            }
            for name, found in judge.agreement.items()
        },
    }


def _rate_data(rate: Bounded) -> dict[str, Any]:
    return {"share": rate.share, "low": rate.low, "hits": rate.hits, "of": rate.of}


def _judge_lines(judge: CalibratedJudge) -> Iterator[str]:
    yield f"{judge.name}{f' ({judge.fingerprint})' if judge.fingerprint else ''}"
    yield f"  {'':22}{'N':>5}{'KAPPA':>8}{'EXACT':>8}{'WITHIN 1':>10}{'BIAS':>8}"
    for name, found in judge.agreement.items():
        shares = f"{found.kappa:>8.2f}{found.exact:>8.1%}{found.within_one:>10.1%}{found.bias:>+8.2f}"
        yield f"  {_TITLES[name]:22}{found.conversations:>5}{shares}"
    for name, rate, what in (
        ("sensitivity", judge.certificate.sensitivity, "people's failures found"),
        ("specificity", judge.certificate.specificity, "others left alone"),
    ):
        share = "unknown" if rate.share is None else f"{rate.share:.1%}"
        yield f"  {name} {share}, at least {rate.low:.1%} ({rate.hits} of {rate.of} labelled: {what})"
