"""When served conversations count as drifted: rarely by chance, however often somebody looks, and soon if they are worse."""

import math
import random
from datetime import date

import pytest

from subterra_api.job_contract.messages import HubCounts, ServedCounts
from subterra_core.monitoring.served_counts import total_counts, week_of
from subterra_core.monitoring.served_drift import (
    ALPHA,
    MIN_COUNT,
    allowed_share,
    drifted_shares,
    log_evidence,
)


def counts(wrong: int, of: int, **unrecognized: tuple[int, int]) -> ServedCounts:
    hubs = {hub: HubCounts(turns=turns, unrecognized=hits) for hub, (hits, turns) in unrecognized.items()}
    return ServedCounts(conversations=of, conformant=of - wrong, hubs=hubs)


REFERENCE = counts(8, 200, choice=(4, 250), enough=(0, 3))


def border(allowed: float, alpha: float, looks: int) -> list[int]:
    """For each number of conversations, the fewest hits that are evidence enough."""
    needed, found = 1, list[int]()
    for of in range(1, looks + 1):
        while needed <= of and (needed <= allowed * of or log_evidence(needed, of, allowed) < -math.log(alpha)):
            needed += 1
        found.append(needed)
    return found


def alarms(share: float, needed: list[int], weeks: int, seed: int) -> int:
    """In how many weeks a look after some conversation finds the evidence."""
    rng, raised = random.Random(seed), 0
    for _ in range(weeks):
        hits = 0
        for fewest in needed:
            hits += rng.random() < share
            if hits >= fewest:
                raised += 1
                break
    return raised


ALLOWED = allowed_share(8, 200)


@pytest.mark.parametrize("alpha", [0.1, ALPHA])
def test_looking_after_every_conversation_raises_no_more_false_alarms_than_stated(alpha: float) -> None:
    """At the very border, where false alarms are most frequent: at most the stated part of weeks, and three standard errors."""
    weeks = 1500
    raised = alarms(ALLOWED, border(ALLOWED, alpha, 400), weeks, seed=7)
    assert raised / weeks <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / weeks)
    assert raised > 0, "the test would say nothing if no alarm were possible"


def test_an_agent_that_serves_as_it_was_evaluated_raises_none() -> None:
    assert alarms(0.04, border(ALLOWED, ALPHA / 3, 400), 1000, seed=11) == 0


def test_three_times_as_many_wrong_replies_as_allowed_are_found_within_two_hundred_conversations() -> None:
    assert alarms(3 * ALLOWED, border(ALLOWED, ALPHA / 3, 200), 200, seed=3) >= 198


def test_the_share_that_drifted_is_named_with_its_counts() -> None:
    (found,) = drifted_shares(counts(40, 100, choice=(2, 100)), REFERENCE)
    assert (found.hub, found.hits, found.of) == (None, 40, 100)
    (at_hub,) = drifted_shares(counts(4, 100, choice=(60, 100)), REFERENCE)
    assert (at_hub.hub, at_hub.hits, at_hub.of) == ("choice", 60, 100)


def test_few_conversations_decide_nothing_however_bad_they_are() -> None:
    assert drifted_shares(counts(MIN_COUNT - 1, MIN_COUNT - 1), REFERENCE) == []
    assert drifted_shares(counts(MIN_COUNT, MIN_COUNT), REFERENCE)


def test_better_than_evaluated_is_no_drift() -> None:
    assert drifted_shares(counts(0, 1000, choice=(0, 1000)), counts(100, 200, choice=(100, 250))) == []


@pytest.mark.parametrize(("hits", "of"), [(0, 0), (3, 3)])
def test_an_evaluation_that_has_seen_nothing_or_nothing_right_allows_everything(hits: int, of: int) -> None:
    assert drifted_shares(counts(100, 100), counts(hits, of)) == []


def test_a_hub_that_few_customers_of_the_evaluation_reached_allows_more() -> None:
    assert drifted_shares(counts(0, 100, enough=(40, 100)), REFERENCE) == []
    assert drifted_shares(counts(0, 100, choice=(40, 100)), REFERENCE)


def test_counts_of_several_pods_add_up() -> None:
    parts = [counts(1, 10, choice=(1, 5)), counts(2, 20, choice=(2, 6), enough=(0, 1))]
    ended = [part.model_copy(update={"endings": {"done": 3}, "asserted": 4}) for part in parts]
    total = total_counts(ended)
    assert (total.conversations, total.conformant, total.asserted, total.endings) == (30, 27, 8, {"done": 6})
    assert total.hubs == {"choice": HubCounts(turns=11, unrecognized=3), "enough": HubCounts(turns=1)}
    assert total_counts([]) == ServedCounts()


def test_a_week_begins_on_monday() -> None:
    assert {week_of(date(2026, 11, day)) for day in range(23, 30)} == {date(2026, 11, 23)}
