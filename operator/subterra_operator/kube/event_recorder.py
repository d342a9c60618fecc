"""Posts Kubernetes Events about changed statuses. Best effort: nothing here delays or fails a reconcile.

An Event that repeats becomes a series of the first one, a resource that changes all the time runs out of tokens, and an Event that
the API server refuses is dropped. Nothing is derived from memory, so a restarted operator posts nothing again.
"""

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from subterra_api.digest import sha256
from subterra_api.v1alpha1 import GROUP
from subterra_operator.decide.events.event import Event
from subterra_operator.decide.events.transition import transition_events
from subterra_operator.kube.api_client import ApiError, KubernetesApi, NotFoundError
from subterra_operator.resources import KINDS, Object, key_of

log = logging.getLogger("subterra")

QUEUE_LIMIT = 1000
"""Events that wait to be posted; more are dropped."""
REMEMBERED = 1000
"""Events that a repetition is recognized of, and resources whose rate is known."""
SERIES_AGE = timedelta(minutes=45)
"""A repetition after this long is an Event of its own: API servers keep one for an hour by default."""
BURST = 25
"""Events of one resource at once: a whole compilation has about a dozen."""
REFILL = timedelta(seconds=30)
"""A resource that has used up its burst may have one more Event in this time."""
REPORTER = f"{GROUP}/operator"
NAME_LENGTH = 230
"""Characters of the resource's name in an Event's name, which has 253 at most."""
V = TypeVar("V")


@dataclass
class _Posted:
    """An Event on the API server: its name, how often it happened, and when it last did."""

    name: str
    count: int
    last: datetime


@dataclass
class _Tokens:
    """Events that a resource may still have, as of a moment."""

    left: float
    at: datetime


class EventRecorder:
    """Turns written statuses into Events and posts them one after another."""

    def __init__(self, api: KubernetesApi, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api, self._now = api, now
        self._queue: asyncio.Queue[tuple[Object, Event, datetime]] = asyncio.Queue(QUEUE_LIMIT)
        self._posted: OrderedDict[str, _Posted] = OrderedDict()
        self._tokens: OrderedDict[str, _Tokens] = OrderedDict()
        self._complaints: OrderedDict[str, None] = OrderedDict()
        """What has been logged, so that it is logged once."""
        self._last_number = 0

    def status_written(self, subject: Mapping[str, Any], status: Object) -> None:
        """Queues the Events of a status that was just written over ``subject``'s. Never blocks or raises."""
        try:
            for event in transition_events(subject["kind"], subject.get("status") or {}, status):
                self._offer(_reference(subject), event)
        except Exception:
            log.exception("%s: no Events for this change of status", key_of(subject))

    async def run(self) -> None:
        """Posts queued Events until cancelled."""
        while True:
            await self.post_next()

    async def post_next(self) -> None:
        """Posts the next Event, once there is one; drops it if the API server refuses or fails."""
        regarding, event, at = await self._queue.get()
        place = f"namespace {regarding['namespace']}"
        try:
            await self._post(regarding, event, at)
        except ApiError as error:
            self._complain(f"{place}: {error.code}", "Events cannot be written in %s and are dropped: %s", place, error)
        except Exception:
            log.exception("%s: an Event was dropped", place)
        else:
            for known in [complaint for complaint in self._complaints if complaint.startswith(f"{place}: ")]:
                del self._complaints[known]

    def _offer(self, regarding: Object, event: Event) -> None:
        name = f"{regarding['kind']} {regarding['namespace']}/{regarding['name']}"
        if not self._take_token(regarding["uid"]):
            self._complain(f"rate {regarding['uid']}", "%s: more than %d Events at once; some are dropped", name, BURST)
        elif self._queue.full():
            self._complain("queue", "more than %d Events wait to be written; some are dropped", QUEUE_LIMIT)
        else:
            self._queue.put_nowait((regarding, event, self._now()))

    def _take_token(self, uid: str) -> bool:
        now = self._now()
        tokens = self._tokens.setdefault(uid, _Tokens(BURST, now))
        tokens.left, tokens.at = min(BURST, tokens.left + (now - tokens.at) / REFILL), now
        _touch(self._tokens, uid)
        if tokens.left < 1:
            return False
        tokens.left -= 1
        return True

    async def _post(self, regarding: Object, event: Event, at: datetime) -> None:
        identity = sha256([regarding["uid"], event.type, event.reason, event.action, event.note])
        known = self._posted.get(identity)
        if known and at - known.last < SERIES_AGE and await self._repeat(regarding, known, at):
            return
        name = self._unique_name(regarding["name"], at)
        await self._api.create(_event_object(regarding, event, name, at))
        self._posted[identity] = _Posted(name, 1, at)
        _touch(self._posted, identity)

    async def _repeat(self, regarding: Object, known: _Posted, at: datetime) -> bool:
        """Counts one more occurrence of a posted Event; returns whether it still exists."""
        series = {"count": known.count + 1, "lastObservedTime": _micro_time(at)}
        metadata = {"name": known.name, "namespace": regarding["namespace"]}
        try:
            await self._api.patch({**_type_meta(), "metadata": metadata, "series": series})
        except NotFoundError:
            return False
        known.count, known.last = known.count + 1, at
        return True

    def _unique_name(self, name: str, at: datetime) -> str:
        """A name that sorts by time: `kubectl describe` shows the Events of a resource in the order of their names."""
        self._last_number = max(self._last_number + 1, int(at.timestamp() * 1_000_000))
        return f"{name[:NAME_LENGTH].rstrip('-.')}.{self._last_number:014x}"

    def _complain(self, complaint: str, text: str, *values: object) -> None:
        """Logs a warning that has not been logged yet."""
        if complaint not in self._complaints:
            log.warning(text, *values)
        self._complaints[complaint] = None
        _touch(self._complaints, complaint)


def _touch(known: OrderedDict[str, V], key: str) -> None:
    """Makes ``key`` the newest entry and forgets the oldest beyond `REMEMBERED`."""
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)


def _reference(subject: Mapping[str, Any]) -> Object:
    """An ObjectReference to a resource."""
    metadata = {field: subject["metadata"][field] for field in ("name", "namespace", "uid")}
    return {"apiVersion": subject["apiVersion"], "kind": subject["kind"], **metadata}


def _type_meta() -> Object:
    return {"apiVersion": KINDS["Event"].api_version, "kind": "Event"}


def _event_object(regarding: Object, event: Event, name: str, at: datetime) -> Object:
    return {
        **_type_meta(),
        "metadata": {"name": name, "namespace": regarding["namespace"]},
        "eventTime": _micro_time(at),
        "reportingController": REPORTER,
        "reportingInstance": socket.gethostname()[:128],
        "regarding": regarding,
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "note": event.note,
    }


def _micro_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
