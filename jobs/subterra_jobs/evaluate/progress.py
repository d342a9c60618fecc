"""Progress and closing message of an evaluation."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from subterra_api.v1alpha1.scores import Interval, Scores
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES
from subterra_jobs.evaluate.cost_check import Expected
from subterra_jobs.evaluate.judge.judges import Panel, Results
from subterra_jobs.evaluate.judge.results import GRACEFUL, Result
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.runner import StageContext

TELL_SECONDS = 1.0


@dataclass
class Meter:
    """How many steps are done."""

    done: int = 0

    def step(self) -> None:
        """One more."""
        self.done += 1


@asynccontextmanager
async def _telling(
    context: StageContext, desk: ClientPool, conversations: int, panel: Panel, expected: Expected | None
) -> AsyncIterator[Meter]:
    """Tells progress and spending now and then, until the end of the block."""
    meter, planned = Meter(), conversations + panel.steps(conversations)
    unit = "conversations" if planned == conversations else "steps"

    async def tell() -> None:
        figures = await desk.figures()
        context.progress.update(min(meter.done, planned), planned, unit, **(figures.told(str(expected)) if figures else {}))

    async def keep_telling() -> None:
        while True:
            await tell()
            await asyncio.sleep(TELL_SECONDS)

    task = asyncio.create_task(keep_telling())
    try:
        yield meter
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await tell()


def message(arms: Results, scores: Scores) -> str:
    """The stage in one or two sentences."""
    results = arms[CANDIDATE]
    parts = [
        *_early(scores),
        f"{scores.scenarios} conversations: conformance {_percent(scores.conformance)}, failures {_percent(scores.failure_rate)}",
        *_parts(results, scores),
    ]
    if others := [name for name in arms if name != CANDIDATE]:
        parts.append(f"beside {', '.join(others)}")
    return "; ".join(parts)


def _early(scores: Scores) -> Iterator[str]:
    if scores.ended_early:
        yield f"ended early, after {scores.scenarios} of {scores.planned} scenarios, since the gate is far out of reach"


def _parts(results: Sequence[Result], scores: Scores) -> Iterator[str]:
    unplayed = sum(result.dialogue.error is not None for result in results)
    faults = sum(result.dialogue.fault is not None for result in results)
    if unplayed:
        yield f"{unplayed} could not be played and count as failed"
    if faults:
        yield f"in {faults} the simulated customer did something wrong; they count all the same"
    if GRACEFUL not in scores.criteria:
        yield f"Graceful Handling is left out, since fewer than {MIN_CHALLENGES} customers posed a challenge"


def _percent(value: Interval) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})"
