"""kopf as we use it: it reads, and writes nothing to anything."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any, cast

import kopf
import pytest

from subterra_operator.controller import Controller
from subterra_operator.framework.census import Census
from subterra_operator.framework.handlers import LAST_LOGIN_PAUSE, REGISTRY, LoginPauses, Memo, observe
from subterra_operator.framework.kopf_settings import Backoffs, configure
from subterra_operator.resources import KINDS, WATCHED

DEFAULT_FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"


def handlers(part: str) -> list[Any]:
    """All handlers of one part of the registry."""
    return list(getattr(REGISTRY, part).get_all_handlers())


def test_there_are_no_handlers_but_clean_ones() -> None:
    """Timers and daemons set finalizers, on.create and its like write annotations, webhooks are configured in the cluster."""
    parts = {name for name in vars(REGISTRY) if name.startswith("_")}
    assert parts == {"_activities", "_indexing", "_watching", "_spawning", "_changing", "_webhooks"}
    assert {part for part in parts if handlers(part)} == {"_activities", "_watching"}
    assert sorted(handler.activity.value for handler in handlers("_activities")) == ["authentication", "startup"]


def test_every_watched_kind_has_one_handler() -> None:
    selectors = [handler.selector for handler in handlers("_watching")]
    found = sorted((selector.group, selector.version, selector.any_name) for selector in selectors)
    assert found == sorted((KINDS[name].group, KINDS[name].version, KINDS[name].plural) for name in WATCHED)
    assert {handler.fn for handler in handlers("_watching")} == {observe}


def configured(begins: list[str] | None = None) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    configure(settings, (begins if begins is not None else []).append)
    return settings


def resource(kind: str) -> kopf.Resource:
    """A kind as kopf discovers it."""
    found = KINDS[kind]
    return kopf.Resource(group=found.group, version=found.version, plural=found.plural, kind=kind, preferred=True)


@pytest.mark.parametrize("kind", WATCHED)
def test_each_kind_is_watched_by_the_selector_of_its_own(kind: str) -> None:
    begins = list[str]()
    selectors = configured(begins).watching.label_selectors.collect(resource(kind))
    assert ",".join(sorted(set(selectors))) == KINDS[kind].selector
    assert begins == [kind], "the census hears of each list and stream"


def test_backoffs_are_endless_and_start_again_for_each_request() -> None:
    backoffs = configured().networking.error_backoffs
    assert isinstance(backoffs, Backoffs)
    for _ in range(2):
        first = list(itertools.islice(backoffs, 100))
        assert first[0] <= 0.5
        assert max(first) <= 15
        assert min(first[50:]) >= 7.5


def test_nothing_of_kopf_lands_on_objects() -> None:
    settings = configured()
    assert settings.persistence.finalizer != DEFAULT_FINALIZER
    assert not settings.posting.enabled
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.scanning.disabled
    body = cast("Any", {"metadata": {"name": "x"}, "spec": {"secret": 1}})
    storage = settings.persistence.diffbase_storage
    assert (storage.build(body=body), storage.fetch(body=body)) == ({}, None)
    with pytest.raises(AssertionError):
        storage.store(body=body, patch=cast("Any", None), essence=storage.build(body=body))
    with pytest.raises(AssertionError):
        settings.persistence.progress_storage.store(
            key=cast("Any", "x"), record=cast("Any", None), body=body, patch=cast("Any", None)
        )


class Recorder:
    """A controller that remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str | None, str, list[str]]] = []
        self.done = asyncio.Event()

    def handle_event(self, event: str | None, obj: dict[str, Any]) -> None:
        self.events.append((event, obj["metadata"]["name"], obj["metadata"].get("finalizers", [])))
        if len(self.events) >= 3:
            self.done.set()

    def watch_begins(self, _: str) -> None:
        """Not of interest."""


FOREIGN: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "foreign",
        "namespace": "demo",
        "uid": "1",
        "resourceVersion": "5",
        "finalizers": [DEFAULT_FINALIZER],
        "labels": {"app.kubernetes.io/managed-by": "subterra"},
    },
}


async def events_of(_: Any) -> AsyncIterator[dict[str, Any]]:
    for kind in (None, "MODIFIED", "DELETED"):
        yield {"type": kind, "object": copy.deepcopy(FOREIGN)}


def test_kopf_hands_the_memo_itself_to_every_object() -> None:
    memo = Memo(cast("Controller", Recorder()), cast("Census", Recorder()))
    assert copy.copy(memo) is memo


def test_logins_are_throttled_only_while_they_are_frequent() -> None:
    pauses, now, found = LoginPauses(), 100.0, list[float]()
    for _ in range(8):
        found.append(pauses.next(now))
        now += found[-1]
    assert found == [0, 0.5, 1, 2, 4, 8, LAST_LOGIN_PAUSE, LAST_LOGIN_PAUSE]
    assert pauses.next(now + 600) == 0, "a rotated token costs no pause"
