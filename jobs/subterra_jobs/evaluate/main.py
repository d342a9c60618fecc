"""Wires the evaluation: scenarios → conversations of all conditions → labels and judgements → scores → report."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from subterra_api.job_contract.messages import CONCURRENCY_VARIABLE, GATE_VARIABLE, Gate, artifact_path
from subterra_api.v1alpha1.scores import Interval, Scores
from subterra_core.gate.verdict import BLOCK, futile
from subterra_core.pricing import money
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.summary import MIN_CHALLENGES, summarise
from subterra_jobs.evaluate.cost_check import Expected, expect
from subterra_jobs.evaluate.judge.judges import Examined, Panel, Results, panel_of
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_judge import GRACEFUL
from subterra_jobs.evaluate.looks import blocks, in_blocks
from subterra_jobs.evaluate.report import report
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.build import Scenario
from subterra_jobs.evaluate.simulate import participants
from subterra_jobs.evaluate.simulate.agents import Condition
from subterra_jobs.evaluate.simulate.conversation_cache import DialogueStore
from subterra_jobs.evaluate.simulate.simulation import CONCURRENCY, Cast, Library, play_all, turn_cap
from subterra_jobs.evaluate.sufficient import CANDIDATE, sufficient
from subterra_jobs.llm.client_pool import Desk
from subterra_jobs.stage.cancellation import Halt, StoppedError, halting
from subterra_jobs.stage.runner import TERMINATED, Outcome, StageContext

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
    gate = Gate.model_validate_json(os.environ.get(GATE_VARIABLE, "{}"))
    trained = build.training_marks(dataset) if dataset else frozenset()
    listed = build.build(graph, run.evaluation, trained)
    async with AsyncExitStack() as stack:
        halt = stack.enter_context(halting())
        desk = Desk(
            context.store, run.run, "evaluate", context.budget, participants.answers_folder(run), check=_check(context, halt)
        )
        stack.push_async_callback(desk.close)
        # Everybody is named before anybody is paid.
        cast, baselines = participants.customers(run, desk), participants.baselines(run, graph, desk)
        panel = panel_of(run, graph, desk, dataset)
        served, about = await participants.served(context, graph, stack)
        conditions = [*served, *baselines]
        simulated = participants.simulated_by(run)
        libraries = {each.name: DialogueStore(context.store, each.fingerprint, simulated) for each in conditions}
        expected = await expect(context, graph, listed, [*libraries.values()], dataset, desk)
        meter = await stack.enter_async_context(_telling(context, desk, len(listed) * len(conditions), panel, expected))
        found = await _examined(_Stage(context, conditions, libraries, listed, cast, panel, meter), gate, halt)
        judging, results = await panel.judging(found, halt), _joined(found)
        figures = await desk.figures()
    scores = summarise(results, run.evaluation.seed).model_copy(update={"planned": len(listed)})
    told = report.provenance(run, context.store, **about) | {"scenarios also in training": str(build.overlap(listed, trained))}
    told |= expected.beside(figures.usd) if expected and figures else {}
    report.write(context.output, report.build(run, graph, results, scores, told, judging, gate), graph, results)
    text = message(results, scores)
    return Outcome(text, scores=scores) if figures is None else Outcome(text, money(figures.usd), figures.tokens, scores)


@dataclass(frozen=True)
class _Stage:
    """Everybody who takes part."""

    context: StageContext
    conditions: Sequence[Condition]
    libraries: Mapping[str, Library]
    listed: list[Scenario]
    cast: Cast
    panel: Panel
    meter: "Meter"


async def _examined(stage: _Stage, gate: Gate, halt: Halt) -> list[Examined]:
    """Everything played and judged, block by block. Each arm has its scenarios: a reference's know what an edit touches."""
    seed, meter, own = stage.context.input.evaluation.seed, stage.meter, participants.beside(stage.context, stage.listed)
    slots, cap = asyncio.Semaphore(_concurrency() * len(stage.conditions)), turn_cap(stage.listed)

    async def examine(part: slice, halt: Halt) -> Examined:
        played = await play_all(
            stage.conditions, stage.listed[part], stage.cast, seed=seed, cap=cap, slots=slots, halt=halt,
            libraries=stage.libraries, on_done=meter.step,
        )  # fmt: skip
        arms = {name: [*zip(own.get(name, stage.listed)[part], talks, strict=True)] for name, talks in played.items()}
        return await stage.panel.examine(arms, halt, meter.step)

    def hopeless(found: Sequence[Examined]) -> bool:
        return futile(sufficient(_joined(found)), gate.policy, gate.attempt)

    return await in_blocks(blocks(len(stage.listed), BLOCK), examine, hopeless, halt)


def _joined(found: Sequence[Examined]) -> Results:
    return {name: [result for each in found for result in each.arms[name]] for name in found[0].arms}


def _concurrency() -> int:
    given = os.environ.get(CONCURRENCY_VARIABLE, "")
    return int(given) if given.isdecimal() and int(given) else CONCURRENCY


@dataclass
class Meter:
    """How many steps are done."""

    done: int = 0

    def step(self) -> None:
        """One more."""
        self.done += 1


@asynccontextmanager
async def _telling(
    context: StageContext, desk: Desk, conversations: int, panel: Panel, expected: Expected | None
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


def _check(context: StageContext, halt: Halt) -> Callable[[], None]:
    def check() -> None:
        context.lease.check()
        halt.check()

    return check


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


def _dataset(context: StageContext) -> Path | None:
    """The conversations that the candidate was trained on; none when they are no longer in the store."""
    path = artifact_path("generate", context.input.keys.dataset)
    return context.store.local(path) if context.store.manifest(path) else None
