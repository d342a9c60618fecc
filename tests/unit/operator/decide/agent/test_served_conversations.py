"""Drift of served conversations in an agent's status: when it is said, what it says, and how seldom it is written."""

from datetime import timedelta
from typing import Any

from subterra_api.job_contract.messages import HubCounts, PodPrice, ServedCounts, ServedSample
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_operator.decide.agent.served_conversations import NO_REFERENCE, REPORT_SECONDS, Watched, watch
from subterra_operator.decide.decision import ConditionBuilder
from subterra_operator.decide.events.agent_events import agent_events
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.running_pod import RunningPod
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_testkit.cluster.kubernetes_objects import NOW

THIS_WEEK, LAST_WEEK = "2026-11-23", "2026-11-16"
REFERENCE = ServedCounts(conversations=200, conformant=192, hubs={"choice": HubCounts(turns=250, unrecognized=4)})


def counts(wrong: int = 0, of: int = 100, unrecognized: int = 0, **more: Any) -> ServedCounts:
    hub = HubCounts(turns=of, unrecognized=unrecognized, violations=wrong)
    return ServedCounts(conversations=of, conformant=of - wrong, hubs={"choice": hub}, **more)


def price(current: ServedCounts, **more: Any) -> PodPrice:
    return PodPrice(sample=ServedSample(**{"week": THIS_WEEK, "current": current, "reference": REFERENCE, **more}))


def watched(*prices: PodPrice, before: CompiledAgentStatus | None = None, seconds: float = 0) -> Watched:
    known = before or CompiledAgentStatus()
    return watch(prices, known, ConditionBuilder(known.conditions, 1, NOW + timedelta(seconds=seconds)))


def status(of: Watched) -> CompiledAgentStatus:
    return CompiledAgentStatus(conditions=of.conditions, monitored=of.monitored)


def drifting(of: Watched) -> Condition | None:
    return next(iter(of.conditions), None)


def test_conversations_as_good_as_evaluated_have_counts_and_no_condition() -> None:
    found = watched(price(counts(4, asserted=50, fabricated=1)))
    assert found.conditions == ()
    assert found.monitored is not None
    assert (found.monitored.conformance.hits, found.monitored.conformance.of) == (96, 100)
    assert (found.monitored.fabrication.hits, found.monitored.fabrication.of) == (1, 50)
    assert found.monitored.evaluated is not None
    assert found.monitored.evaluated.hits == 192


def test_wrong_replies_are_named_with_share_number_hub_and_fix() -> None:
    condition = drifting(watched(price(counts(60))))
    assert condition is not None
    assert (condition.type, condition.status, condition.reason) == (Type.DRIFTING, "True", Reason.CONFORMANCE_DROPPED)
    assert condition.message == (
        "since 2026-11-23 wrong replies in 60 of 100 (60%, where at most 13% is allowed; evaluation: 8 of 200) conversations, most "
        "often after choice (60): read some (spec.monitoring.keep: Full) and add what is missing to the procedure; an edit of the "
        "procedure compiles it again"
    )


def test_words_that_nobody_recognized_are_named_with_their_hub() -> None:
    found = watched(price(counts(0, unrecognized=60)))
    condition = drifting(found)
    assert condition is not None
    assert condition.reason == Reason.WORDS_UNRECOGNIZED
    assert "at hub choice words like no example in 60 of 100 (60%" in condition.message
    assert "add such words as examples of the edges of choice" in condition.message
    assert found.monitored is not None
    assert found.monitored.worst_hub is not None
    assert found.monitored.worst_hub.unrecognized == 60


def test_counts_of_all_pods_decide_together() -> None:
    few = price(counts(15, 25))
    assert drifting(watched(few)) is None
    assert drifting(watched(few, few, few, few)) is not None


def test_last_weeks_drift_is_shown_until_this_week_is_over() -> None:
    condition = drifting(watched(price(counts(0, 3), previous=counts(60))))
    assert condition is not None
    assert condition.message.startswith("since 2026-11-16 ")


def test_a_pod_that_has_not_turned_the_page_counts_for_last_week() -> None:
    late = price(counts(60), week=LAST_WEEK)
    assert drifting(watched(price(counts(0, 1)), late)) is not None


def test_without_a_reference_nothing_drifts_and_the_status_says_why() -> None:
    found = watched(price(counts(60), reference=None))
    assert found.conditions == ()
    assert found.monitored is not None
    assert found.monitored.problem == NO_REFERENCE


def test_each_new_conversation_is_no_reason_to_write_a_status() -> None:
    first = watched(price(counts(60)))
    again = watched(price(counts(61, 101)), before=status(first), seconds=600)
    assert (again.monitored, again.conditions, again.recheck_after) == (first.monitored, first.conditions, REPORT_SECONDS - 600)
    later = watched(price(counts(61, 101)), before=status(first), seconds=REPORT_SECONDS)
    assert later.monitored is not None
    assert later.monitored.conversations == 101


def test_an_agent_at_rest_writes_nothing_ever() -> None:
    first = watched(price(counts(4)))
    for hours in (1, 24):
        again = watched(price(counts(4)), before=status(first), seconds=3600 * hours)
        assert (again.monitored, again.recheck_after) == (first.monitored, None)


def test_drift_is_said_at_once_and_so_is_its_end() -> None:
    fine = watched(price(counts(4)))
    worse = watched(price(counts(60)), before=status(fine), seconds=60)
    assert drifting(worse) is not None
    assert drifting(watched(price(counts(4)), before=status(worse), seconds=90)) is None


def test_pods_that_do_not_answer_take_nothing_back() -> None:
    before = status(watched(price(counts(60))))
    found = watched(before=before, seconds=60)
    assert (found.monitored, found.conditions) == (before.monitored, before.conditions)


def test_drift_and_its_end_are_events_and_its_counts_are_not() -> None:
    fine, worse = status(watched(price(counts(4)))), status(watched(price(counts(60))))
    (event,) = agent_events(fine, worse)
    assert (event.type, event.reason) == ("Warning", Reason.CONFORMANCE_DROPPED)
    assert "60 of 100" in event.note
    assert agent_events(worse, status(watched(price(counts(65))))) == []
    (over,) = agent_events(worse, fine)
    assert over.type == "Normal"


def test_a_new_count_wakes_the_queue() -> None:
    woken: list[object] = []
    poller = PodPoller(ObjectCache(), woken.append)
    pod = RunningPod("demo", "travel-pod", "10.0.0.1", agent="travel")
    for current in (counts(1), counts(1), counts(2)):
        poller._publish_price(pod, price(current))
    assert len(woken) == 2
