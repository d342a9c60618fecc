"""Wires the evaluation: scenarios → conversations of all conditions → labels and judgements → scores → report."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from subterra_api.contract import CONCURRENCY_VARIABLE, artifact_path
from subterra_api.graph import Graph
from subterra_api.pricing import money
from subterra_api.v1alpha1.scores import Interval, Scores
from subterra_jobs.common.stage import TERMINATED, Outcome, StageContext
from subterra_jobs.evaluate import players, report, scenarios
from subterra_jobs.evaluate.conditions import Condition
from subterra_jobs.evaluate.dialogues import DialogueStore
from subterra_jobs.evaluate.halt import Halt, StoppedError, halting
from subterra_jobs.evaluate.judge import GRACEFUL
from subterra_jobs.evaluate.panel import Arms, Panel, Results, panel_of
from subterra_jobs.evaluate.play import CONCURRENCY, Cast, play_all
from subterra_jobs.evaluate.results import Result
from subterra_jobs.evaluate.scenarios import Scenario
from subterra_jobs.evaluate.scoring import MIN_CHALLENGES, summarise
from subterra_jobs.evaluate.sufficient import CANDIDATE
from subterra_jobs.providers.desk import Desk

TELL_SECONDS = 1.0


def work(context: StageContext) -> Outcome:
    """The stage's work: plays and judges the candidate and leaves the report in ``context.output``."""
    for chatty in ("httpx", "httpx2"):  # a line for every turn and call
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return asyncio.run(_evaluate(context))
    except StoppedError:
        raise SystemExit(TERMINATED) from None


async def _evaluate(context: StageContext) -> Outcome:
    run, graph, dataset = context.input, Graph(context.input.procedure), _dataset(context)
    trained = scenarios.training_marks(dataset) if dataset else frozenset()
    listed = scenarios.build(graph, run.evaluation, trained)
    async with AsyncExitStack() as stack:
        halt = stack.enter_context(halting())
        desk = Desk(context.store, run.run, "evaluate", context.budget, players.answers_folder(run), check=_check(context, halt))
        stack.push_async_callback(desk.close)
        # Everybody is named before anybody is paid.
        cast, baselines = players.customers(run, desk), players.baselines(run, graph, desk)
        panel = panel_of(run, graph, desk, dataset)
        served, about = await players.served(context, graph, stack)
        conditions = [*served, *baselines]
        meter = await stack.enter_async_context(_telling(context, desk, len(listed) * len(conditions), panel))
        arms = await _play(context, conditions, listed, cast, halt, meter)
        results, judging = await panel.results(arms, meter.phase())
        figures = await desk.figures()
    scores = summarise(results, run.evaluation.seed)
    told = report.provenance(run, context.store, **about) | {"scenarios also in training": str(scenarios.overlap(listed, trained))}
    report.write(context.output, report.build(run, graph, results, scores, told, judging), graph, results)
    text = message(results, scores)
    return Outcome(text, scores=scores) if figures is None else Outcome(text, money(figures.usd), figures.tokens, scores)


async def _play(
    context: StageContext, conditions: Sequence[Condition], listed: list[Scenario], cast: Cast, halt: Halt, meter: "Meter"
) -> Arms:
    """Everything played, each arm with its scenarios; a reference's know what an edit since then touches."""
    simulated, own = players.simulated_by(context.input), players.beside(context, listed)
    libraries = {each.name: DialogueStore(context.store, each.fingerprint, simulated) for each in conditions}
    given = os.environ.get(CONCURRENCY_VARIABLE, "")
    played = await play_all(
        conditions, listed, cast, seed=context.input.evaluation.seed, halt=halt, libraries=libraries,
        concurrency=int(given) if given.isdecimal() and int(given) else CONCURRENCY, on_done=meter.phase(),
    )  # fmt: skip
    return {name: list(zip(own.get(name, listed), dialogues, strict=True)) for name, dialogues in played.items()}


@dataclass
class Meter:
    """How many steps are done, over several phases."""

    done: int = 0

    def phase(self) -> Callable[[int], None]:
        """Takes how many steps of the next phase are done."""
        before = self.done

        def tell(done: int) -> None:
            self.done = before + done

        return tell


@asynccontextmanager
async def _telling(context: StageContext, desk: Desk, conversations: int, panel: Panel) -> AsyncIterator[Meter]:
    """Tells progress and spending now and then, until the end of the block."""
    meter, planned = Meter(), conversations + panel.steps(conversations)
    unit = "conversations" if planned == conversations else "steps"

    async def tell() -> None:
        figures = await desk.figures()
        context.progress.update(min(meter.done, planned), planned, unit, **(figures.told() if figures else {}))

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


def _check(context: StageContext, halt: Halt) -> Callable[[], None]:
    def check() -> None:
        context.lease.check()
        halt.check()

    return check


def message(arms: Results, scores: Scores) -> str:
    """The stage in one or two sentences."""
    results = arms[CANDIDATE]
    parts = [
        f"{scores.scenarios} conversations: conformance {_percent(scores.conformance)}, failures {_percent(scores.failure_rate)}",
        *_parts(results, scores),
    ]
    if others := [name for name in arms if name != CANDIDATE]:
        parts.append(f"beside {', '.join(others)}")
    return "; ".join(parts)


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


def _dataset(context: StageContext) -> Path | None:
    """The conversations that the candidate was trained on; none when they are no longer in the store."""
    path = artifact_path("generate", context.input.keys.dataset)
    return context.store.local(path) if context.store.manifest(path) else None
