"""Progress and closing message of an evaluation."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from subterra_api.v1alpha1.scores import Interval, Scores
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES
from subterra_jobs.evaluate.cost_check import CostForecast
from subterra_jobs.evaluate.judge.results import GRACEFUL, ArmResults, Result, counted
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.runner import StageContext

REPORT_SECONDS = 1.0


@dataclass
class StepCounter:
    """Number of steps done. Some may be done ahead of where they are counted; these are counted once."""

    done: int = 0
    ahead: int = 0

    def increment(self) -> None:
        """Counts one more step."""
        if self.ahead:
            self.ahead -= 1
        else:
            self.done += 1

    def increment_ahead(self) -> None:
        """Counts a step for which `increment` will be called later."""
        self.done += 1
        self.ahead += 1


@asynccontextmanager
async def report_progress(
    context: StageContext, pool: ClientPool, conversations: int, further_steps: int, forecast: CostForecast | None
) -> AsyncIterator[StepCounter]:
    """Publishes progress and spending every second until the block ends; yields the counter of steps done."""
    steps, planned = StepCounter(), conversations + further_steps
    unit = "conversations" if planned == conversations else "steps"

    async def publish() -> None:
        figures = await pool.stats()
        notes = [*(pool.batches.notes() if pool.batches else ()), str(forecast)]
        context.progress.update(min(steps.done, planned), planned, unit, **(figures.progress_fields(*notes) if figures else {}))

    async def keep_publishing() -> None:
        while True:
            await publish()
            await asyncio.sleep(REPORT_SECONDS)

    task = asyncio.create_task(keep_publishing())
    try:
        yield steps
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await publish()


def closing_message(arms: ArmResults, scores: Scores) -> str:
    """Summary of the stage in one or two sentences, candidate first."""
    results = arms[CANDIDATE]
    parts = [
        *_early_stop_part(scores),
        f"{scores.scenarios} conversations: conformance {_percentage(scores.conformance)}, "
        f"failures {_percentage(scores.failure_rate)}",
        *_problem_parts(results, scores),
    ]
    if others := [name for name in arms if name != CANDIDATE]:
        parts.append(f"compared with {', '.join(others)}")
    return "; ".join(parts)


def _early_stop_part(scores: Scores) -> Iterator[str]:
    if scores.ended_early:
        yield f"ended early, after {scores.scenarios} of {scores.planned} scenarios: the candidate can no longer pass the gate"


def _problem_parts(results: Sequence[Result], scores: Scores) -> Iterator[str]:
    failed = sum(result.conversation.error is not None for result in results)
    left_out = len(results) - len(counted(results))
    faults = sum(result.conversation.fault is not None for result in results) - left_out
    if failed:
        yield f"{failed} could not be simulated and count as failed"
    if left_out:
        yield f"in {left_out} the simulated customer left early; they are left out"
    if faults:
        yield f"in {faults} the simulated customer misbehaved; they are included"
    if GRACEFUL not in scores.criteria:
        yield f"Graceful Handling is omitted: fewer than {MIN_CHALLENGES} customers posed a challenge"


def _percentage(value: Interval) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})"
