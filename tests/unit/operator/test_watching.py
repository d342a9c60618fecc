"""Watches and polls: what a thousand agents would make expensive is done once, or not at all."""

from typing import Any

import pytest
from kopf._cogs.clients import watching
from tests.builders import operator_objects as make

from subterra_api.contract import Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator import handlers, progress
from subterra_operator.kinds import COMPONENT_LABEL, Object
from subterra_operator.progress import Poller
from subterra_operator.store import Store


def test_kopf_lists_nothing_and_watches_from_where_our_list_ended() -> None:
    assert watching.fetching.fetch_objs is handlers.listed, "kopf has moved its list; without ours each object costs a task"


def running(component: str) -> Object:
    """A pod that may be asked."""
    pod = make.pod_of({"metadata": {"name": component, "uid": component, "labels": {COMPONENT_LABEL: component}}}, running={})
    return {**pod, "status": {**pod["status"], "podIP": "10.0.0.1"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pods were asked for."""
    found: list[str] = []
    answers = {"price": Price(conversations=3), "progress": Progress(stage="train", percent=42)}

    async def get(_: Any, url: str, __: Any) -> Any:
        found.append(url.rpartition("/")[2])
        return answers[found[-1]]

    monkeypatch.setattr(progress, "_get", get)
    return found


async def test_before_the_first_decision_everybody_has_been_asked(asked: list[str]) -> None:
    store = Store()
    for component in ("serving", "job"):
        store.seen(running(component))
    await Poller(store, lambda _: None).first()
    assert sorted(asked) == ["price", "progress"]
    assert ([price.conversations for price in store.prices.values()], len(store.progress)) == ([3], 1)


async def test_prices_are_asked_for_less_often_than_progress(asked: list[str]) -> None:
    store = Store()
    for component in ("serving", "job"):
        store.seen(running(component))
    poller = Poller(store, lambda _: None)
    await poller.first()
    await poller.first()
    assert sorted(asked) == ["price", "progress", "progress"]
