"""Wires the evaluation: scenarios → conversations of all conditions → labels and judgements → scores → report."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import CONCURRENCY_VARIABLE, GATE_VARIABLE
from subterra_api.job_contract.messages import Gate
from subterra_core.gate.verdict import BLOCK, futile
from subterra_core.pricing import money
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.gate_statistics import sufficient
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.cost_check import expect
from subterra_jobs.evaluate.judge.judges import Examined, Panel, Results, panel_of
from subterra_jobs.evaluate.progress import Meter, _telling, message
from subterra_jobs.evaluate.report import report
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scenarios.training_overlap import overlap, training_marks
from subterra_jobs.evaluate.scheduling import blocks, in_blocks
from subterra_jobs.evaluate.simulate import participants
from subterra_jobs.evaluate.simulate.agents import Condition
from subterra_jobs.evaluate.simulate.conversation_cache import DialogueStore
from subterra_jobs.evaluate.simulate.simulation import CONCURRENCY, Cast, Library, play_all, turn_cap
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.cancellation import Halt, StoppedError, halting
from subterra_jobs.stage.runner import TERMINATED, Outcome, StageContext


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
    trained = training_marks(dataset) if dataset else frozenset()
    listed = build.build(graph, run.evaluation, trained)
    async with AsyncExitStack() as stack:
        halt = stack.enter_context(halting())
        desk = ClientPool(
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
    told = report.provenance(run, context.store, **about) | {"scenarios also in training": str(overlap(listed, trained))}
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


def _check(context: StageContext, halt: Halt) -> Callable[[], None]:
    def check() -> None:
        context.lease.check()
        halt.check()

    return check


def _dataset(context: StageContext) -> Path | None:
    """The conversations that the candidate was trained on; none when they are no longer in the store."""
    path = artifact_path("generate", context.input.keys.dataset)
    return context.store.local(path) if context.store.manifest(path) else None
