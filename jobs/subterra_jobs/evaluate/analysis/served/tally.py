"""Counts of what was found, by weeks, kept in a file so that a monitor that starts again goes on. The date is passed in."""

import json
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from pydantic import ValidationError

from subterra_api.job_contract.environment import MONITOR_STATE_FILE
from subterra_api.job_contract.messages import HubCounts, MonitorState, ServedCounts, ServedSample
from subterra_core.monitoring.served_counts import DAYS, total_counts, week_of
from subterra_jobs.evaluate.analysis.served.chat_check import Finding


def counts_of(finding: Finding) -> ServedCounts:
    """What one record adds to the counts."""
    hubs = dict[str, HubCounts]()
    if finding.hub is not None:
        hubs[finding.hub] = HubCounts(turns=1, unrecognized=int(not finding.recognized))
    if finding.outcome == "violation" and finding.wrong_at is not None:
        hubs = total_counts([ServedCounts(hubs=hubs), ServedCounts(hubs={finding.wrong_at: HubCounts(violations=1)})]).hubs
    return ServedCounts(
        requests=1,
        conversations=int(finding.outcome is not None),
        conformant=int(finding.outcome == "conformant"),
        asserted=finding.values.asserted,
        fabricated=finding.values.fabricated,
        endings={finding.ending: 1} if finding.ending is not None else {},
        hubs=hubs,
    )


class Tally:
    """The counts of this pod."""

    def __init__(self, folder: Path, today: date) -> None:
        self._file = folder / MONITOR_STATE_FILE
        self._state = _read(self._file) or MonitorState(sample=ServedSample(week=week_of(today).isoformat()))
        self._turn_page(today)

    @property
    def state(self) -> MonitorState:
        """All counts as of the last change."""
        return self._state

    def add(self, findings: Iterable[Finding], today: date, unreadable: int = 0) -> None:
        """Adds what was found today."""
        self._turn_page(today)
        state, new = self._state, total_counts(map(counts_of, findings))
        sample = state.sample.model_copy(update={"current": total_counts((state.sample.current, new))})
        total = total_counts((state.total, new))
        self._state = MonitorState(sample=sample, total=total, unreadable=state.unreadable + unreadable)

    def describe(self, reference: ServedCounts | None, problem: str | None = None) -> None:
        """Sets what the counts are compared with, or why there are none."""
        sample = self._state.sample.model_copy(update={"reference": reference, "problem": problem})
        self._state = self._state.model_copy(update={"sample": sample})

    def save(self) -> None:
        """Writes the counts for the exporter and for the next start."""
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(self._state.model_dump_json(by_alias=True, exclude_none=True))
        unfinished.replace(self._file)

    def _turn_page(self, today: date) -> None:
        """On the first day of a new week the current counts become the previous ones; those of an earlier week are gone."""
        week, sample = week_of(today), self._state.sample
        if sample.week == week.isoformat():
            return
        follows = sample.week == (week - timedelta(days=DAYS)).isoformat()
        previous = sample.current if follows else ServedCounts()
        turned = sample.model_copy(update={"week": week.isoformat(), "current": ServedCounts(), "previous": previous})
        self._state = self._state.model_copy(update={"sample": turned})


def _read(file: Path) -> MonitorState | None:
    try:
        return MonitorState.model_validate(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, ValidationError):
        return None
