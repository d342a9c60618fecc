"""What keeps a pod from running: a reason for conditions, the cause in the cluster's words, and the fix."""

import re
from dataclasses import dataclass
from datetime import datetime

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import seconds_since
from subterra_operator.resources import Key

GRACE_SECONDS = 30.0
"""How long a pod may take to start before a condition mentions it."""
EVENTS_AFTER_SECONDS = 15.0
"""How long a pod may take to start before the Events about it are read."""
EVENTS_EVERY_SECONDS = 30.0
"""Interval at which these Events are read again."""
WORDS_LIMIT = 400


@dataclass(frozen=True)
class Place:
    """The owner of a pod and where its settings are, for the fixes."""

    owner: Key
    """The Job, JobSet or Deployment."""
    field: str
    """Settings of the pod in the spec, such as ``spec.serving``."""
    claim: str
    """Name of the store's volume claim."""

    @property
    def remake(self) -> str:
        """How a pod with corrected settings is made."""
        return f"then delete {self.owner.kind} {self.owner.name}, which is made again"

    @property
    def remake_after_edit(self) -> str:
        """The same for an edit of ``field``: an edited ``spec.serving`` is another version, which starts by itself."""
        return f", {self.remake}" if self.owner.kind != "Deployment" else ""


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run."""

    reason: Reason
    cause: str
    fix: str
    since: str | None = None
    """When it began, as a Kubernetes timestamp; `None` if it is certain and needs no grace."""
    event_sources: tuple[Key, ...] = ()
    """Objects whose Events may say more."""
    claim_missing: bool = False
    """Whether the store's volume claim does not exist."""

    @property
    def text(self) -> str:
        """Cause and fix."""
        return f"{self.cause}; {self.fix}"

    def lasts(self, now: datetime) -> bool:
        """Whether it has lasted long enough for a condition."""
        return seconds_since(self.since, now) >= GRACE_SECONDS

    def lookups(self, now: datetime) -> tuple[Key, ...]:
        """Objects whose Events should be read now."""
        return self.event_sources if seconds_since(self.since, now) >= EVENTS_AFTER_SECONDS else ()

    def recheck_after(self, now: datetime) -> float | None:
        """Seconds until conditions or Events change although no watched object does, or `None`."""
        age = seconds_since(self.since, now)
        due = [limit - age for limit in (EVENTS_AFTER_SECONDS, GRACE_SECONDS) if age < limit]
        if self.event_sources:
            due.append(EVENTS_EVERY_SECONDS)
        return min(due, default=None)


def last_words(text: str | None) -> str:
    """The last line of a termination message, printable and short: of a traceback the error itself."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""


def one_line(text: str) -> str:
    """``text`` in one printable line of at most `WORDS_LIMIT` characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = re.sub(r"\s+", " ", line).strip()
    return line if len(line) <= WORDS_LIMIT else line[: WORDS_LIMIT - 1] + "…"
