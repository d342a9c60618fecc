"""Which rank computes what: every conversation once an epoch, no rank waits for another, and no micro-batch is too large."""

import random
from dataclasses import replace

import pytest

from subterra_jobs.train.batches.step_plan import StepPlan, waiting_share

ZOOM, INSURANCE = (364, 0.4), (946, 0.22)
"""Mean and spread of the logarithm: conversations of about 840 and 1,580 tokens at the 99th percentile."""


def lengths(count: int, mean: float = 400, spread: float = 0.4, seed: int = 1) -> list[int]:
    """Log-normal lengths, as conversations have."""
    rng = random.Random(seed)
    return [max(40, round(mean * rng.lognormvariate(-(spread**2) / 2, spread))) for _ in range(count)]


def plan(count: int = 200, batch: int = 8, ranks: int = 2, limit: int = 1024, seed: int = 42) -> StepPlan:
    return StepPlan(lengths(count), batch, ranks, limit, seed)


@pytest.mark.parametrize("count", [8, 9, 15, 16, 95, 200, 1003])
@pytest.mark.parametrize(("batch", "ranks"), [(8, 1), (8, 2), (8, 3), (7, 2), (2, 4)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_conversation_is_trained_once_an_epoch_by_one_rank(count: int, batch: int, ranks: int, epoch: int) -> None:
    steps = plan(count, batch, ranks).epoch(epoch)
    seen = sorted(index for shares in steps for share in shares for micro in share for index in micro)
    assert seen == list(range(count))
    assert len(steps) == len(plan(count, batch, ranks)) == count // max(batch, ranks)


def test_all_ranks_have_as_many_micro_batches_at_each_step_and_none_is_empty() -> None:
    for shares in plan(203, ranks=3).epoch(0):
        assert len({len(share) for share in shares}) == 1
        assert all(micro for share in shares for micro in share)


def test_an_epoch_has_its_own_order_which_depends_on_seed_and_number_alone() -> None:
    assert plan().epoch(3) == plan().epoch(3)
    orders = [plan().epoch(0), plan().epoch(1), plan(seed=43).epoch(0)]
    assert all(orders.count(order) == 1 for order in orders)


@pytest.mark.parametrize(("mean", "spread"), [ZOOM, INSURANCE])
@pytest.mark.parametrize(("batch", "ranks", "limit"), [(32, 8, 16384), (16, 8, 16384), (32, 8, 2048), (8, 2, 1024)])
def test_ranks_wait_for_each_other_at_most_a_twentieth_of_the_time(
    mean: float, spread: float, batch: int, ranks: int, limit: int
) -> None:
    found = lengths(2700, mean, spread)
    assert waiting_share(StepPlan(found, batch, ranks, limit, 42).epoch(0), found) <= 0.05


def test_waiting_is_the_time_until_the_slowest_rank_of_each_micro_batch() -> None:
    sizes = [100, 50, 100, 100]
    assert waiting_share([(((0,), (2,)), ((1,), (3,)))], sizes) == 50 / 400


@pytest.mark.parametrize("limit", [512, 1024, 2048])
def test_no_micro_batch_exceeds_limit_and_longest_conversation(limit: int) -> None:
    tested = plan(800, 16, 2, limit)
    micros = [micro for shares in tested.epoch(0) for share in shares for micro in share]
    assert max(sum(tested.lengths[index] for index in micro) for micro in micros) <= max(limit, *tested.lengths)


def test_a_conversation_over_the_limit_does_not_make_single_ones_of_all_others() -> None:
    found = [100] * 63 + [1500]
    (first, *_) = StepPlan(found, 64, 1, 1000, 1).epoch(0)
    assert len(first[0]) <= 8


@pytest.mark.parametrize(("mean", "spread"), [ZOOM, INSURANCE])
def test_micro_batches_are_filled_to_nine_tenths(mean: float, spread: float) -> None:
    """At most a ninth more of them than tokens and limit make necessary."""
    found = lengths(2400, mean, spread)
    steps = StepPlan(found, 64, 1, 4096, 42).epoch(0)
    needed = sum(-(-sum(found[index] for micro in share for index in micro) // 4096) for (share,) in steps)
    assert needed >= 0.9 * sum(len(share) for (share,) in steps)


def test_the_longest_conversation_comes_first_so_that_a_lack_of_memory_shows_at_once() -> None:
    tested = plan(800)
    first = [index for share in tested.epoch(0)[0] for micro in share for index in micro]
    assert max(tested.lengths) in [tested.lengths[index] for index in first]


def test_too_few_conversations_for_one_batch_have_no_step() -> None:
    assert len(replace(plan(), batch=500)) == 0
