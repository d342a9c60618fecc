"""What a decision consists of, and small steps that all deciders share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from subterra_api.digest import sha256
from subterra_api.v1alpha1.base import ApiModel, Condition
from subterra_api.v1alpha1.conditions import Reason, Type, make_condition
from subterra_operator.resources import Key, Object, key_of

MESSAGE_LIMIT = 1500


@dataclass(frozen=True)
class Write:
    """One object to write.

    ``create`` never changes an existing object; ``apply`` is server-side apply; ``patch`` is a merge patch that fails when the
    object has changed. ``guard`` must be unchanged on the API server just before the write: for whatever costs money. So must
    ``more_guards``.
    """

    verb: Literal["create", "apply", "patch"]
    object: Object
    guard: Mapping[str, Any] | None = None
    group: str = ""
    """Writes of one group depend on the earlier ones: after a refused write the rest of its group waits, other groups go on."""
    more_guards: tuple[Mapping[str, Any], ...] = ()

    @property
    def key(self) -> Key:
        return key_of(self.object)

    @cached_property
    def digest(self) -> str:
        """Identifies verb and object."""
        return sha256([self.verb, self.object])


@dataclass(frozen=True)
class Decision:
    """What to do: writes in order, deletions, the status to write, and when to reconcile again even if nothing happens."""

    writes: tuple[Write, ...] = ()
    deletes: tuple[Mapping[str, Any], ...] = ()
    status: Object | None = None
    recheck_after: float | None = None
    lookups: tuple[Key, ...] = ()
    """Objects whose Events the next decision would like to know."""


def patch(observed: Mapping[str, Any], change: Object) -> Write:
    """A merge patch of ``observed``, fenced by its resourceVersion."""
    metadata = {key: observed["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
    metadata |= change.get("metadata", {})
    return Write("patch", {"apiVersion": observed["apiVersion"], "kind": observed["kind"], **change, "metadata": metadata})


def to_json(status: ApiModel) -> Object:
    """A status as it is stored: without nulls."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_time(text: str) -> datetime:
    """A Kubernetes timestamp."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def seconds_since(text: str | None, now: datetime) -> float:
    """Seconds since a Kubernetes timestamp; infinite for `None`, and for an annotation that somebody made unreadable."""
    try:
        return (now - parse_time(text)).total_seconds() if text else float("inf")
    except ValueError:
        return float("inf")


def earliest(times: Iterable[float | None]) -> float | None:
    """The smallest time that is set, or `None`."""
    return min((time for time in times if time is not None), default=None)


def truncate(text: str) -> str:
    """``text`` without surrounding space, cut to `MESSAGE_LIMIT` characters."""
    text = text.strip()
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


@dataclass(frozen=True)
class ConditionBuilder:
    """Builds the conditions of one resource at one moment."""

    previous: Sequence[Condition]
    generation: int
    now: datetime

    def __call__(self, kind: Type, status: bool | None, reason: Reason, message: str = "") -> Condition:
        """The condition; its transition time moves only with its status."""
        return make_condition(
            kind, status, reason, truncate(message), previous=self.previous, generation=self.generation, now=self.now
        )


def find_condition(conditions: Sequence[Condition], kind: Type) -> Condition | None:
    """The condition of a type, or `None`."""
    return next((condition for condition in conditions if condition.type == kind), None)
