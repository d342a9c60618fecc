"""Many jobs in one mixed order: bounded, seeded, and after a failure nothing new is begun."""

import asyncio
from collections.abc import Sequence

import pytest

from subterra_jobs.evaluate.scheduling import Schedule, run_shuffled
from subterra_jobs.stage.cancellation import Cancellation


class Workshop:
    """Does jobs, and remembers how."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.at_once = self.most = 0
        self._fails_at = fails_at

    async def do(self, job: int) -> int:
        self.begun.append(job)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if job == self._fails_at:
            raise RuntimeError(f"job {job} failed")
        await asyncio.sleep(0)
        self.ended.append(job)
        return job * job


def done(workshop: Workshop, jobs: Sequence[int], seed: int = 1, concurrency: int = 4) -> list[int]:
    return asyncio.run(run_shuffled(jobs, workshop.do, Schedule(seed, asyncio.Semaphore(concurrency), Cancellation())))


def test_results_come_in_the_jobs_order_whatever_the_order_of_work() -> None:
    workshop = Workshop()
    assert done(workshop, range(30)) == [job * job for job in range(30)]
    assert sorted(workshop.begun) == list(range(30))
    assert workshop.begun != list(range(30))


def test_the_seed_draws_the_order() -> None:
    orders = []
    for seed in (1, 1, 2):
        workshop = Workshop()
        done(workshop, range(30), seed)
        orders.append(workshop.begun)
    assert orders[0] == orders[1] != orders[2]


def test_no_more_than_so_many_are_done_at_once() -> None:
    workshop = Workshop()
    done(workshop, range(30), concurrency=3)
    assert workshop.most == 3


def test_after_a_failure_none_is_begun_and_those_under_way_come_to_their_end() -> None:
    workshop = Workshop(fails_at=11)
    with pytest.raises(RuntimeError, match="job 11 failed"):
        done(workshop, range(30))
    assert set(workshop.begun) - set(workshop.ended) == {11}
    assert len(workshop.begun) < 30


def test_nothing_to_do_is_done() -> None:
    assert done(Workshop(), []) == []
