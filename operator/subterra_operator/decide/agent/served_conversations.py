"""What monitors have found in served conversations: for the status, and whether it has drifted from the evaluation. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from subterra_api.job_contract.messages import PodPrice, ServedCounts, ServedSample
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus, Monitored, MonitoredHub
from subterra_api.v1alpha1.conditions import Reason, Type, timestamp
from subterra_api.v1alpha1.scores import Proportion
from subterra_core.monitoring.served_counts import DAYS, total_counts
from subterra_core.monitoring.served_drift import Drifted, drifted_shares
from subterra_operator.decide.decision import ConditionBuilder, find_condition, seconds_since

REPORT_SECONDS = 3600.0
"""Least time between two reports in the status while nothing drifts anew: it is for people, the metrics have every count."""
NO_REFERENCE = "nothing is compared, since the report of the version's evaluation is not in the store"


@dataclass(frozen=True)
class Watched:
    """For the status, and the seconds until newer counts may be reported."""

    monitored: Monitored | None = None
    conditions: tuple[Condition, ...] = ()
    recheck_after: float | None = None


@dataclass(frozen=True)
class _Weeks:
    """Counts of all pods, in the current week and in the one before."""

    begin: date
    current: ServedCounts
    previous: ServedCounts
    reference: ServedCounts | None

    @classmethod
    def of(cls, samples: Sequence[ServedSample]) -> "_Weeks":
        newest = max(date.fromisoformat(sample.week) for sample in samples)
        last = (newest - timedelta(days=DAYS)).isoformat()
        now = [sample for sample in samples if sample.week == newest.isoformat()]
        late = [sample.current for sample in samples if sample.week == last]  # a pod that has not turned the page yet
        reference = next((sample.reference for sample in samples if sample.reference), None)
        before = total_counts([*(sample.previous for sample in now), *late])
        return cls(newest, total_counts(sample.current for sample in now), before, reference)

    def drifted(self) -> tuple[date, ServedCounts, list[Drifted]] | None:
        """The latest week with drifted shares, its counts and the shares; last week's stay until this one ends."""
        if self.reference is None:
            return None
        for begin, counts in ((self.begin, self.current), (self.begin - timedelta(days=DAYS), self.previous)):
            if found := drifted_shares(counts, self.reference):
                return begin, counts, found
        return None


def watch(prices: Sequence[PodPrice], before: CompiledAgentStatus, make: ConditionBuilder) -> Watched:
    """What the serving version's pods have found. Their newest counts are reported at most once an hour, drift at once."""
    samples = [price.sample for price in prices if price.sample]
    if not samples:
        return Watched(before.monitored, _kept(before, make))
    weeks = _Weeks.of(samples)
    drifted = weeks.drifted()
    current = _monitored(weeks, samples)
    known, shown = before.monitored, find_condition(before.conditions, Type.DRIFTING)
    same = (shown.reason if shown else None) == (_reason(drifted[2]) if drifted else None)
    left = REPORT_SECONDS - seconds_since(known.measured_at, make.now) if known else 0.0
    unchanged = known is not None and known.model_copy(update={"measured_at": None}) == current
    if same and (unchanged or left > 0):
        return Watched(known, _kept(before, make), None if unchanged else left)
    reported = current.model_copy(update={"measured_at": timestamp(make.now)})
    if drifted is None:
        return Watched(reported)
    return Watched(reported, (make(Type.DRIFTING, True, _reason(drifted[2]), _message(weeks, *drifted)),))


def _kept(before: CompiledAgentStatus, make: ConditionBuilder) -> tuple[Condition, ...]:
    """The condition as it was, so that it is not written with every conversation, and not lost while no pod answers."""
    shown = find_condition(before.conditions, Type.DRIFTING)
    return (make(Type.DRIFTING, True, Reason(shown.reason), shown.message),) if shown and shown.status == "True" else ()


def _reason(drifted: Sequence[Drifted]) -> Reason:
    return Reason.CONFORMANCE_DROPPED if drifted[0].hub is None else Reason.WORDS_UNRECOGNIZED


def _monitored(weeks: _Weeks, samples: Sequence[ServedSample]) -> Monitored:
    counts, reference = total_counts((weeks.current, weeks.previous)), weeks.reference
    hubs = [MonitoredHub(hub=name, turns=hub.turns, unrecognized=hub.unrecognized) for name, hub in sorted(counts.hubs.items())]
    worst = max(hubs, key=lambda hub: hub.unrecognized / max(1, hub.turns), default=None)
    problem = next((sample.problem for sample in samples if sample.problem), None)
    return Monitored(
        conversations=counts.conversations,
        conformance=Proportion(hits=counts.conformant, of=counts.conversations),
        fabrication=Proportion(hits=counts.fabricated, of=counts.asserted),
        worst_hub=worst if worst and worst.unrecognized else None,
        evaluated=Proportion(hits=reference.conformant, of=reference.conversations) if reference else None,
        problem=problem or (None if reference else NO_REFERENCE),
    )


def _message(weeks: _Weeks, begin: date, counts: ServedCounts, drifted: Sequence[Drifted]) -> str:
    """What has drifted, with its shares, and what to do."""
    assert weeks.reference is not None, "without a reference nothing drifts"
    reference, parts, fixes = weeks.reference, list[str](), list[str]()
    for share in drifted:
        seen = f"{share.hits} of {share.of} ({share.hits / share.of:.0%}, where at most {share.allowed:.0%} is allowed"
        if share.hub is None:
            evaluated = f"{reference.conversations - reference.conformant} of {reference.conversations}"
            parts.append(f"wrong replies in {seen}; evaluation: {evaluated}) conversations{_where(counts)}")
            fixes.append("read some (spec.monitoring.keep: Full) and add what is missing to the procedure")
        else:
            there = reference.hubs[share.hub]
            evaluated = f"{there.unrecognized} of {there.turns}"
            parts.append(f"at hub {share.hub} words like no example in {seen}; evaluation: {evaluated}) turns")
            fixes.append(f"add such words as examples of the edges of {share.hub}")
    return f"since {begin.isoformat()} {', '.join(parts)}: {', and '.join(fixes)}; an edit of the procedure compiles it again"


def _where(counts: ServedCounts) -> str:
    """The hub after which most first wrong replies came."""
    worst = max(sorted(counts.hubs), key=lambda hub: counts.hubs[hub].violations, default=None)
    return f", most often after {worst} ({counts.hubs[worst].violations})" if worst and counts.hubs[worst].violations else ""
