"""One Kubernetes Event before it is written, and the words that Events of all kinds share."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NOTE_BYTES = 1024
"""The API server refuses longer notes."""


class EventReason(StrEnum):
    """Reasons of Events for which there is no condition reason."""

    CREATED = "Created"
    STAGE_STARTED = "StageStarted"
    STAGE_RETRIED = "StageRetried"
    STAGE_SUCCEEDED = "StageSucceeded"
    RESULT_LOST = "ResultLost"
    RESUMED = "Resumed"
    RECOVERED = "Recovered"
    RUN_CREATED = "RunCreated"
    RUN_REUSED = "RunReused"
    TRAFFIC_MOVED = "TrafficMoved"
    ROLLED_BACK = "RolledBack"
    REEVALUATION_STOPPED = "ReevaluationStopped"


@dataclass(frozen=True)
class Event:
    """What happened to a resource. ``action`` is what the operator did or tried, ``note`` is for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


def normal(reason: str, action: str, note: str) -> Event:
    """An Event about something that needs nobody's help."""
    return Event("Normal", str(reason), action, fit(note))


def warning(reason: str, action: str, note: str) -> Event:
    """An Event about something that a person may have to look at."""
    return Event("Warning", str(reason), action, fit(note))


def fit(note: str) -> str:
    """``note`` without surrounding space, cut to `NOTE_BYTES` of UTF-8."""
    note = note.strip()
    if len(note.encode()) <= NOTE_BYTES:
        return note
    return note.encode()[: NOTE_BYTES - len("…".encode())].decode(errors="ignore") + "…"


def span(seconds: float) -> str:
    """A duration in its two largest units, such as ``12 min 3 s``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
