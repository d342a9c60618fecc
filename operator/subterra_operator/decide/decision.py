"""What a decision consists of, and the small steps all deciders share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from subterra_api.v1alpha1.base import ApiModel, Condition
from subterra_api.v1alpha1.conditions import Reason, Type, condition
from subterra_operator.resources import Key, Object, key_of

MESSAGE_LIMIT = 1500


@dataclass(frozen=True)
class Write:
    """One object to write.

    ``create`` happens once and never changes an existing object; ``apply`` is server-side apply; ``patch`` is a merge patch that
    fails when the object is not as it was seen. ``guard`` must be unchanged on the API server just before: for what costs money.
    """

    how: Literal["create", "apply", "patch"]
    object: Object
    guard: Mapping[str, Any] | None = None

    @property
    def key(self) -> Key:
        return key_of(self.object)


@dataclass(frozen=True)
class Decision:
    """What to do: writes in order, deletions, the status to show, and when to look again even if nothing happens."""

    writes: tuple[Write, ...] = ()
    deletes: tuple[Mapping[str, Any], ...] = ()
    status: Object | None = None
    recheck_after: float | None = None


def patch(seen: Mapping[str, Any], change: Object) -> Write:
    """A merge patch of ``seen``, fenced by its resourceVersion."""
    metadata = {key: seen["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
    metadata |= change.get("metadata", {})
    return Write("patch", {"apiVersion": seen["apiVersion"], "kind": seen["kind"], **change, "metadata": metadata})


def wire(status: ApiModel) -> Object:
    """A status as it is stored: everything but nulls."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def moment(text: str) -> datetime:
    """A Kubernetes time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def seconds_since(text: str | None, now: datetime) -> float:
    """Seconds since a Kubernetes time; endless when there is none."""
    return (now - moment(text)).total_seconds() if text else float("inf")


def soonest(times: Iterable[float | None]) -> float | None:
    """The smallest time that is set."""
    return min((time for time in times if time is not None), default=None)


def shortened(text: str) -> str:
    """``text``, cut where a status would grow out of hand."""
    text = text.strip()
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


@dataclass(frozen=True)
class Conditions:
    """Sets conditions of one resource at one moment."""

    previous: Sequence[Condition]
    generation: int
    now: datetime

    def __call__(self, kind: Type, status: bool | None, reason: Reason, message: str = "") -> Condition:
        """The condition; its transition time moves only with its status."""
        return condition(kind, status, reason, shortened(message), previous=self.previous, generation=self.generation, now=self.now)


def find(conditions: Sequence[Condition], kind: Type) -> Condition | None:
    """The condition of a type."""
    return next((item for item in conditions if item.type == kind), None)
