"""Executes decisions: the only module that writes to the cluster, except for heartbeat and Events.

Objects to create are never changed and must be ours; objects to apply are written again only when the live object lacks something;
patches and the status are fenced by the observed resourceVersion. The first failure ends the execution: the rest, including the
status, waits for the next try, so that a status never reports what did not happen. A write that the API server refuses ends only
its group of writes, a deletion nothing.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from subterra_operator.decide.decision import Decision, Write, seconds_since
from subterra_operator.decide.refusal import Answer, name_taken, refusal_of, refused_deletion, stuck_deletion
from subterra_operator.kube.api_client import ApiError, ConflictError, KubernetesApi, NotFoundError
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.labels import APPLIED_DIGEST, MANAGED_BY, MANAGER, annotations_of, labels_of
from subterra_operator.resources import WATCHED, Key, Object, controller_uid, is_deleting, key_of
from subterra_operator.snapshot import Refusal

_SERVING = ("Deployment", "Service", "HTTPRoute", "InferencePool")
STUCK_SECONDS = 60.0
"""How long the deletion of an object that is in the way may take before the status tells of it."""
REWRITE_SECONDS = 240.0
"""Interval at which unwatched objects are compared, in case someone changed them; below the resync's, so that each one does."""


class RefusedError(Exception):
    """The API server refused a write, or an object of the wanted name is not ours; the ``refusal`` is for the status."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Applier:
    """Writes decisions and updates the cache with the responses, so that the next decision sees them."""

    def __init__(
        self,
        api: KubernetesApi,
        cache: ObjectCache,
        enqueue: Callable[[Object], None],
        on_status: Callable[[Mapping[str, Any], Object], None] = lambda subject, status: None,
    ) -> None:
        self._api, self._cache, self._enqueue, self._on_status = api, cache, enqueue, on_status
        self._written: dict[Key, tuple[str, float]] = {}

    async def apply(self, subject: Mapping[str, Any], decision: Decision) -> list[str]:
        """Writes, deletes, then writes the status; returns what changed, such as ``create Job x``, or ``status``.

        Raises ApiError, RefusedError.
        """
        changes, refused = list[str](), dict[str, RefusedError]()
        for write in decision.writes:
            try:
                if write.group not in refused and await self._write_or_refuse(write, subject):
                    changes.append(f"{write.verb} {write.key.kind} {write.key.name}")
            except RefusedError as error:
                refused[write.group] = error
        if refused:
            raise next(iter(refused.values()))
        if decision.deletes:
            await self._check_guard(subject)
        for obj in decision.deletes:
            try:
                await self._delete(obj, subject)
                changes.append(f"delete {obj['kind']} {obj['metadata']['name']}")
            except RefusedError as error:
                refused["deletes"] = error
        if refused:
            raise refused["deletes"]
        if await self.write_status(subject, decision.status):
            changes.append("status")
        return changes

    async def write_status(self, subject: Mapping[str, Any], status: Object | None) -> bool:
        """Writes the status if it differs; returns whether it did. Raises ApiError."""
        if status is None or status == subject.get("status"):
            return False
        metadata = {key: subject["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": subject["apiVersion"], "kind": subject["kind"], "metadata": metadata}
        change = merge_patch(subject.get("status") or {}, status)
        self._remember(await self._api.patch({**body, "status": change}, "status"))
        self._on_status(subject, status)
        return True

    async def _write_or_refuse(self, write: Write, subject: Mapping[str, Any]) -> bool:
        try:
            return await self._write(write)
        except ApiError as error:
            if refusal := refusal_of(Answer(error.code, error.message), write, subject):
                raise RefusedError(refusal) from error
            raise

    async def _write(self, write: Write) -> bool:
        if write.verb == "patch":
            await self._check_guard(write.guard)
            return await self._patch(write)
        digest, watched = write.digest, write.key.kind in WATCHED
        if write.verb == "create" and not watched:
            return await self._create_unwatched(write)
        if self._up_to_date(write, digest) if watched else self._recently_written(write.key, digest):
            return False
        for guard in (write.guard, *write.more_guards):
            await self._check_guard(guard)
        if write.verb == "apply" and not watched:
            return await self._apply_unwatched(write, digest)
        if write.verb == "create":
            await self._create(write)
        else:
            self._remember(await self._apply(write.object, digest))
        return True

    async def _patch(self, write: Write) -> bool:
        try:
            self._remember(await self._api.patch(write.object))
        except NotFoundError:
            if write.key.kind in WATCHED:
                raise
            return False  # what no watch reports may be gone by now
        return True

    def _up_to_date(self, write: Write, digest: str) -> bool:
        """Whether a watched object is as wanted: created by us, or applied by us and unchanged since."""
        cached = self._cache.get(write.key)
        if cached is None:
            return False
        if write.verb == "create":
            return _is_ours(cached, write.object)
        return _as_applied(cached, write.object, digest)

    def _recently_written(self, key: Key, digest: str) -> bool:
        """Whether this very object, of an unwatched kind, was written or compared less than `REWRITE_SECONDS` ago."""
        written_digest, written_at = self._written.get(key, ("", 0.0))
        return written_digest == digest and time.monotonic() - written_at < REWRITE_SECONDS

    async def _create_unwatched(self, write: Write) -> bool:
        """Makes sure of an object that no watch reports, and that may have been deleted; returns whether it was created."""
        existing = await self._get(write.key)
        if existing is None:
            await self._create(write)
        elif not _is_ours(existing, write.object):
            raise _name_conflict(existing, write.object)
        return existing is None

    async def _create(self, write: Write) -> None:
        try:
            self._remember(await self._api.create(write.object))
        except ApiError as error:
            if not 400 <= error.code < 500:
                raise
            existing = await self._find(write.key)  # quotas and policies refuse before names are compared
            if existing is None:
                raise
            if not _is_ours(existing, write.object):
                if not _lost_its_label(existing, write.object):
                    raise _name_conflict(existing, write.object) from None
                existing = await self._relabel(existing)
            self._remember(existing)

    async def _relabel(self, existing: Object) -> Object:
        """Gives back the label by which watches select, so that they report the object again."""
        metadata = {key: existing["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": existing["apiVersion"], "kind": existing["kind"]}
        return await self._api.patch({**body, "metadata": {**metadata, "labels": {MANAGED_BY: MANAGER}}})

    async def _get(self, key: Key) -> Object | None:
        """The live object, or `None` if there is none. Raises ApiError: what cannot be read must not be overwritten."""
        try:
            return await self._api.get(key)
        except NotFoundError:
            return None

    async def _find(self, key: Key) -> Object | None:
        """The live object, or `None` if there is none or it cannot be read."""
        try:
            return await self._api.get(key)
        except ApiError:
            return None

    async def _apply_unwatched(self, write: Write, digest: str) -> bool:
        """Compares an object that no watch reports, and applies it unless it is as wanted; returns whether it did.

        Raises RefusedError for an object that somebody else made: applying would overwrite it.
        """
        existing = await self._get(write.key)
        if existing and labels_of(existing).get(MANAGED_BY) != MANAGER:
            raise RefusedError(name_taken(existing))
        differs = existing is None or not _as_applied(existing, write.object, digest)
        if differs:
            await self._apply(write.object, digest)
        self._written[write.key] = (digest, time.monotonic())
        return differs

    async def _apply(self, wanted: Object, digest: str) -> Object:
        """Applies an object. Raises ConflictError while the one of a deleted owner of the same name is in its place."""
        try:
            return await self._api.apply(with_digest(wanted, digest))
        except ApiError as error:
            existing = await self._find(key_of(wanted)) if error.code == 422 else None  # a second controller is refused
            if existing is None or not _is_left_behind(existing, wanted):
                raise
            raise _conflict(existing) from error

    async def _check_guard(self, guard: Mapping[str, Any] | None) -> None:
        """A live check just before a write that costs money, moves traffic or deletes. Raises ConflictError."""
        if guard is None:
            return
        key = key_of(guard)
        live = await self._api.get(key)
        self._remember(live)
        if live["metadata"]["resourceVersion"] != guard["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", f"{key} has changed since the decision")

    async def _delete(self, obj: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
        try:
            await self._api.delete(obj)
        except NotFoundError:
            self._cache.remove(obj)
        except ApiError as error:
            if refusal := refused_deletion(Answer(error.code, error.message), obj, subject):
                raise RefusedError(refusal) from error
            raise

    def _remember(self, obj: Object) -> None:
        if obj["kind"] in WATCHED and self._cache.upsert(obj):
            self._enqueue(obj)  # the watch event will be a duplicate by then


def _as_applied(existing: Mapping[str, Any], wanted: Object, digest: str) -> bool:
    """Whether an existing object was applied by us as it is wanted, and has not been changed since."""
    return annotations_of(existing).get(APPLIED_DIGEST) == digest and contains(existing, wanted)


def _is_ours(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an existing object is the wanted one: the same controller, or none and managed by us."""
    return controller_uid(existing) == controller_uid(wanted) and labels_of(existing).get(MANAGED_BY) == MANAGER


def _lost_its_label(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an object that serves is ours save for the label that somebody removed or changed."""
    owner = controller_uid(wanted)
    return existing["kind"] in _SERVING and owner is not None and controller_uid(existing) == owner


def _name_conflict(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> Exception:
    """Why an existing object cannot be used: it is being deleted along with a namesake of its owner, or it is foreign."""
    if is_deleting(existing) or _is_left_behind(existing, wanted):
        return _conflict(existing)
    return RefusedError(name_taken(existing))


def _is_left_behind(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an object belongs to a deleted namesake of the wanted one's owner, with which it is about to go."""
    theirs, ours = (
        [(owner["kind"], owner["name"]) for owner in obj["metadata"].get("ownerReferences", [])] for obj in (existing, wanted)
    )
    return bool(theirs) and theirs == ours and controller_uid(existing) != controller_uid(wanted)


def _conflict(existing: Mapping[str, Any]) -> Exception:
    """Why to wait for the end of an object; a refusal once its deletion takes so long that something holds it."""
    since = existing["metadata"].get("deletionTimestamp")
    if since and seconds_since(since, datetime.now(UTC)) > STUCK_SECONDS:
        return RefusedError(stuck_deletion(existing))
    return ConflictError(409, "Conflict", f"{key_of(existing)} of a deleted owner of the same name is still being deleted")


def with_digest(obj: Object, digest: str) -> Object:
    """``obj`` with the annotation that records what was applied."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations_of(obj), APPLIED_DIGEST: digest}}}


def contains(actual: Any, wanted: Any) -> bool:
    """Whether ``actual`` has everything in ``wanted``; additional keys do not matter. Lists must be equal."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        return all(key in actual and contains(actual[key], value) for key, value in wanted.items())
    return bool(actual == wanted)


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The merge patch that turns ``old`` into ``new``; lists are replaced whole."""
    change: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                change[key] = inner
        elif before != value or key not in old:
            change[key] = value
    return change
