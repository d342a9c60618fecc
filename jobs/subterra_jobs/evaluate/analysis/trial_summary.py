"""pass^k: how reliably the candidate succeeds with the same customer in other words. Pure.

The name is that of tau-bench (arXiv 2406.12045), where a task passes k times in a row or not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from subterra_api.v1alpha1.scores import Interval, TrialScores
from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.scenarios.repeated_trials import TrialPlan

SHOWN = 10
"""Customers shown of those with whom only some trials passed."""


def passed(result: Result) -> bool:
    """Whether a trial passed: the agent followed the procedure to its end, and Task Success is above 3."""
    return result.conformant and not result.failed


@dataclass(frozen=True)
class TrialResults:
    """Results of each customer's trials, the first one first, or why there are none."""

    trials: int
    customers: tuple[tuple[Result, ...], ...] = ()
    untested: str | None = None

    @property
    def passes(self) -> list[int]:
        """Number of trials that passed, by customer; without those whose simulated customer left early in any trial."""
        return [sum(map(passed, trials)) for trials in self._counted()]

    def _counted(self) -> Iterator[tuple[Result, ...]]:
        return (trials for trials in self.customers if not any(result.left_out for result in trials))

    def scores(self) -> TrialScores:
        """Counts for the gate."""
        passes = self.passes
        return TrialScores(trials=self.trials, passed_all=passes.count(self.trials), of=len(passes), passed=sum(passes))

    def summary(self, seed: int) -> dict[str, Any]:
        """The report's part: pass^1 to pass^k with 95 % intervals, and customers with whom only some trials passed."""
        passes = self.passes
        mixed = [trials for trials in self._counted() if 0 < sum(map(passed, trials)) < self.trials]
        return {
            "trials": self.trials,
            "customers": len(passes),
            "untested": self.untested,
            "passHat": [self._pass_hat(k, passes, seed) for k in range(1, self.trials + 1)] if passes else [],
            "mixed": [_customer_row(trials) for trials in mixed[:SHOWN]],
            "mixedCustomers": len(mixed),
        }

    def _pass_hat(self, k: int, passes: Sequence[int], seed: int) -> dict[str, Any]:
        """pass^k, the chance that k trials with a customer all pass, estimated from all ways to choose k of the trials.

        Where k is the number of trials each customer counts as one or nothing, and the interval is that of the gate's check.
        """
        shares = [comb(count, k) / comb(self.trials, k) for count in passes]
        interval: Interval = (
            statistics.share_interval(passes.count(self.trials), len(passes))
            if k == self.trials
            else statistics.mean_interval(shares, seed)
        )
        return {"k": k, "share": interval.model_dump()}


def collect_trials(plan: TrialPlan, first: Sequence[Result], further: Sequence[Result], ended_early: str | None) -> TrialResults:
    """Results by customer, from those of all scenarios and those of the plan's further trials, in its order."""
    if ended_early is not None or not plan.customers:
        return TrialResults(plan.trials, untested=ended_early or plan.untested)
    remaining = iter(further)
    return TrialResults(
        plan.trials,
        tuple((first[customer.first], *(next(remaining) for _ in customer.further)) for customer in plan.customers),
    )


def _customer_row(trials: Sequence[Result]) -> dict[str, Any]:
    first = trials[0].scenario
    return {"id": first.id, "path": list(first.path), "values": first.values, "passed": [passed(result) for result in trials]}
