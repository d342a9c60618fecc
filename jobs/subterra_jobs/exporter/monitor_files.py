"""What recorder and monitor of this pod have counted, from the files that they share with the exporter."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from subterra_api.job_contract.environment import MONITOR_STATE_FILE, RECORDER_COUNTS_FILE
from subterra_api.job_contract.messages import MonitorState, ServedCounts, ServedSample

MAX_SAMPLE_BYTES = 5000
"""The operator reads no more than 8 KiB of a page."""


@dataclass(frozen=True)
class MonitorFiles:
    """The monitor's counts, and the recorder's: requests that were `seen`, `recorded`, or dropped for a reason."""

    state: MonitorState
    requests: dict[str, int]


def read_monitor_files(folder: Path | None) -> MonitorFiles | None:
    """The current counts; `None` without a monitor, or before it has written any."""
    if folder is None:
        return None
    try:
        state = MonitorState.model_validate(json.loads((folder / MONITOR_STATE_FILE).read_text()))
    except (OSError, ValueError, ValidationError):
        return None
    return MonitorFiles(state, _counts(folder / RECORDER_COUNTS_FILE))


def short_enough(sample: ServedSample, limit: int = MAX_SAMPLE_BYTES) -> ServedSample:
    """The sample without the hubs that fewest customers came to, and without endings, so that a page holds it."""
    parts = {name: getattr(sample, name) for name in ("current", "previous", "reference")}
    sizes = {hub: sum(part.hubs[hub].turns for part in parts.values() if part and hub in part.hubs) for hub in _hubs(parts)}
    names = sorted(sizes, key=lambda hub: (-sizes[hub], hub))
    while True:
        found = sample.model_copy(update={name: _only(part, names) for name, part in parts.items()})
        if not names or len(found.model_dump_json(by_alias=True, exclude_none=True).encode()) <= limit:
            return found
        names.pop()


def _hubs(parts: dict[str, ServedCounts | None]) -> set[str]:
    return {hub for part in parts.values() if part for hub in part.hubs}


def _only(part: ServedCounts | None, names: list[str]) -> ServedCounts | None:
    hubs = {hub: counts for hub, counts in part.hubs.items() if hub in names} if part else {}
    return part.model_copy(update={"hubs": hubs, "endings": {}}) if part else None


def _counts(file: Path) -> dict[str, int]:
    try:
        found = json.loads(file.read_text())
        return {str(name): int(count) for name, count in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
