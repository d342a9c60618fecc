"""An agent's status reports prices seldom, and never because time has passed: the metrics have every measurement."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from subterra_api.job_contract.messages import PodPrice
from subterra_api.v1alpha1.compiledagent import Price
from subterra_core.pricing import format_usd
from subterra_operator.decide.agent.price import REPORT_SECONDS, price_to_report
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.running_pod import RunningPod
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import NOW

POLL = 30


def measured(seconds: float, conversations: int, busy: float = 0.5) -> PodPrice:
    """What the exporter of a pod at USD 3.60 an hour reports ``seconds`` after its start."""
    spent = (busy * conversations, seconds)
    per_conversation, with_idle = (
        format_usd(Decimal(str(each)) / 1000 / conversations) if conversations else None for each in spent
    )
    return PodPrice(
        usd_per_conversation=per_conversation,
        usd_per_conversation_with_idle=with_idle,
        usd_per_hour="3.60",
        conversations=conversations,
        idle_percent=round(100 * (1 - busy * conversations / seconds)),
    )


def writes(prices: Iterator[tuple[float, Price]], before: Price | None = None) -> list[float]:
    """The seconds at which a status with these prices is written."""
    written = []
    for seconds, price in prices:
        reported, _ = price_to_report(before, price, NOW + timedelta(seconds=seconds))
        if reported != before:
            written.append(seconds)
        before = reported
    return written


def test_ten_minutes_at_rest_write_nothing() -> None:
    first, _ = price_to_report(None, measured(1000, 4), NOW)
    rest = [(seconds, measured(1000 + seconds, 4)) for seconds in range(POLL, 600, POLL)]
    assert rest[0][1].usd_per_conversation_with_idle != rest[-1][1].usd_per_conversation_with_idle
    assert writes(iter(rest), first) == []


def test_traffic_writes_once_an_hour() -> None:
    first, _ = price_to_report(None, measured(1000, 4), NOW)
    traffic = [(seconds, measured(1000 + seconds, 4 + seconds // POLL)) for seconds in range(POLL, 3 * 3600 + 1, POLL)]
    assert writes(iter(traffic), first) == [3600, 7200, 10800]


def test_the_first_price_does_not_wait() -> None:
    started, _ = price_to_report(None, measured(10, 0), NOW)
    assert writes(iter([(POLL, measured(40, 0)), (2 * POLL, measured(70, 1)), (3 * POLL, measured(100, 2))]), started) == [2 * POLL]


def test_a_price_that_waits_is_written_without_further_traffic() -> None:
    first, _ = price_to_report(None, measured(1000, 4), NOW)
    later, after = price_to_report(first, measured(1600, 9), NOW + timedelta(seconds=600))
    assert (later, after) == (first, REPORT_SECONDS - 600)
    last, after = price_to_report(first, measured(4600, 9), NOW + timedelta(seconds=3600))
    assert last
    assert (last.conversations, after) == (9, None)


@pytest.mark.parametrize("change", [{"usd_per_hour": "5.00"}, {"compile_usd": "1.25"}])
def test_what_people_decide_shows_at_once(change: dict[str, Any]) -> None:
    first, _ = price_to_report(None, measured(1000, 4), NOW)
    reported, _ = price_to_report(first, measured(1030, 4).model_copy(update=change), NOW + timedelta(seconds=POLL))
    assert reported
    assert reported.model_dump().items() >= change.items()


def test_pods_that_do_not_answer_after_a_restart_remove_no_price() -> None:
    first, _ = price_to_report(None, measured(1000, 4), NOW)
    assert price_to_report(first, Price(usd_per_hour="3.60"), NOW + timedelta(hours=2)) == (first, None)


def test_only_conversations_wake_the_queue() -> None:
    woken = []
    poller = PodPoller(ObjectCache(), woken.append)
    pod = RunningPod("demo", "travel-pod", "10.0.0.1", agent="travel")
    for price in (measured(10, 1), measured(40, 1), measured(70, 1), measured(100, 2)):
        poller._publish_price(pod, price)
    assert len(woken) == 2
    assert poller._cache.prices["demo", "travel-pod"] == measured(100, 2)


def test_no_stage_takes_a_large_node_for_itself() -> None:
    limits = Settings().resources
    assert all("cpu" in getattr(limits, stage).limits for stage in ("generate", "train", "evaluate", "vllm"))
    assert all(int(getattr(limits, stage).limits["cpu"]) >= 2 for stage in ("generate", "train", "evaluate", "vllm"))
