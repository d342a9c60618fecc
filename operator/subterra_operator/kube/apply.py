"""Carries a decision out: the only module that writes to the cluster.

Create-once objects are never changed and must be ours; applied ones are written again only when what is there is not all that we
want; patches and the status are fenced by the resourceVersion that was seen. The first failure ends it: the rest, the status
included, waits for the next try, so that a status never tells of what did not happen.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from subterra_api.digest import sha256
from subterra_operator.decide.decision import Decision, Write
from subterra_operator.kube.cache import Store
from subterra_operator.kube.client import Api, ConflictError, ExistsError, MissingError
from subterra_operator.labels import APPLIED, MANAGED_BY, MANAGER, annotations, labels
from subterra_operator.resources import WATCHED, Key, Object, controller_uid, deleting, key_of

REWRITE_SECONDS = 600.0
"""What we do not watch is written again after so long, in case somebody changed it."""


class ForeignObjectError(Exception):
    """An object of that name exists and is not ours."""


class Applier:
    """Writes decisions out and feeds the answers to the store, so that the next decision sees them."""

    def __init__(self, api: Api, store: Store, wake: Callable[[Object], None]) -> None:
        self._api, self._store, self._wake = api, store, wake
        self._written: dict[Key, tuple[str, float]] = {}

    async def carry_out(self, subject: Mapping[str, Any], decision: Decision) -> bool:
        """All writes, deletes, then the status; says whether anything was written. Raises ApiError, ForeignObjectError."""
        changed = False
        for write in decision.writes:
            changed |= await self._write(write)
        if decision.deletes:
            await self._guard(subject)
        for obj in decision.deletes:
            await self._delete(obj)
            changed = True
        return await self.tell(subject, decision.status) or changed

    async def _write(self, write: Write) -> bool:
        if write.how == "patch":
            await self._guard(write.guard)
            self._seen(await self._api.patch(write.object))
            return True
        digest = sha256([write.how, write.object])
        if self._there(write, digest) if write.key.kind in WATCHED else self._fresh(write.key, digest):
            return False
        await self._guard(write.guard)
        if write.how == "create":
            await self._create(write)
        else:
            self._seen(await self._api.apply(stamped(write.object, digest)))
        if write.key.kind not in WATCHED:
            self._written[write.key] = (digest, time.monotonic())
        return True

    def _there(self, write: Write, digest: str) -> bool:
        """Whether a watched object is there as it is wanted: created by us, or applied and left alone since."""
        found = self._store.get(write.key)
        if found is None:
            return False
        if write.how == "create":
            return _ours(found, write.object)
        return annotations(found).get(APPLIED) == digest and contains(found, write.object)

    def _fresh(self, key: Key, digest: str) -> bool:
        """Whether this very object was written a short while ago; it is of a kind that we do not watch."""
        before, at = self._written.get(key, ("", 0.0))
        return before == digest and time.monotonic() - at < REWRITE_SECONDS

    async def _create(self, write: Write) -> None:
        try:
            self._seen(await self._api.create(write.object))
        except ExistsError:
            found = await self._api.get(write.key)
            if not _ours(found, write.object):
                raise _stranger(found, write.object) from None
            self._seen(found)

    async def _guard(self, guard: Mapping[str, Any] | None) -> None:
        """A live look just before what costs money, moves traffic or deletes."""
        if guard is None:
            return
        key = key_of(guard)
        live = await self._api.get(key)
        self._seen(live)
        if live["metadata"]["resourceVersion"] != guard["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", f"{key} changed since it was looked at")

    async def _delete(self, obj: Mapping[str, Any]) -> None:
        try:
            await self._api.delete(obj)
        except MissingError:
            self._store.seen(obj, deleted=True)

    async def tell(self, subject: Mapping[str, Any], status: Object | None) -> bool:
        """Writes the status if it differs; says whether it did. Raises ApiError."""
        if status is None or status == subject.get("status"):
            return False
        metadata = {key: subject["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        body = {"apiVersion": subject["apiVersion"], "kind": subject["kind"], "metadata": metadata}
        change = difference(subject.get("status") or {}, status)
        self._seen(await self._api.patch({**body, "status": change}, "status"))
        return True

    def _seen(self, obj: Object) -> None:
        if obj["kind"] in WATCHED and self._store.seen(obj):
            self._wake(obj)  # its event will be no news any more


def _ours(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an object that exists is the one we meant: same controller, or ours and without one."""
    return controller_uid(found) == controller_uid(wanted) and labels(found).get(MANAGED_BY) == MANAGER


def _stranger(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Exception:
    """Why an object that exists cannot be taken: it is on its way out with a predecessor of the same name, or somebody else's."""
    owners, ours = (
        [(item["kind"], item["name"]) for item in obj["metadata"].get("ownerReferences", [])] for obj in (found, wanted)
    )
    if deleting(found) or (owners and owners == ours):
        return ConflictError(409, "Conflict", f"{key_of(found)} of a deleted namesake has not gone yet")
    return ForeignObjectError(f"{key_of(found)} exists and is not ours; delete it or give it another name")


def stamped(obj: Object, digest: str) -> Object:
    """``obj`` with the digest of what is applied."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations(obj), APPLIED: digest}}}


def contains(found: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is found; what others added does not matter. Lists must be equal."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(key in found and contains(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The merge patch that turns ``old`` into ``new``; lists are replaced whole."""
    change: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                change[key] = inner
        elif before != value or key not in old:
            change[key] = value
    return change
