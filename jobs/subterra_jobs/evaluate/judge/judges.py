"""Who labels and judges what was played: rules where the words are the procedure's own, else models."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from subterra_api.job_contract.messages import RunInput
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.conformance import Replay, replay
from subterra_jobs.evaluate.judge.llm_judge import TWICE, ModelJudge, Played, judge_all
from subterra_jobs.evaluate.judge.llm_labeller import ModelLabeller
from subterra_jobs.evaluate.judge.results import Judging, Repeat, Result
from subterra_jobs.evaluate.judge.rule_judge import judge
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import shuffled
from subterra_jobs.evaluate.simulate.simulation import Dialogue
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.cancellation import Halt

CONCURRENCY = 64
"""Conversations that are labelled or judged at a time; the account's limits may let through fewer calls."""
Arms = Mapping[str, Sequence[Played]]
Results = dict[str, list[Result]]


@dataclass(frozen=True)
class Examined:
    """What was made of conversations: the results of each arm, in its order, and what was judged twice."""

    arms: Results
    repeats: tuple[Repeat, ...] = ()


class Panel(Protocol):
    """Makes results of conversations."""

    def steps(self, conversations: int) -> int:
        """How much there is to do, for progress."""
        ...

    async def examine(self, arms: Arms, halt: Halt, on_done: Callable[[], None]) -> Examined:
        """Labels and judges; ``on_done`` is called after each step. Raises a StageError when there is no going on."""
        ...

    async def judging(self, examined: Sequence[Examined], halt: Halt) -> Judging:
        """Who did it, and how well."""
        ...


def panel_of(run: RunInput, graph: Graph, desk: ClientPool, dataset: Path | None) -> Panel:
    """The run's panel. Without a dataset the labeller's accuracy stays unknown. Raises InvalidInputError."""
    return Rules(graph) if run.evaluation.judge.name == "scripted" else Models(run, graph, desk, dataset)


class Rules:
    """Reads the procedure's own words."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._labeller = graph, Labeller(graph)

    def steps(self, conversations: int) -> int:
        """None that takes time."""
        return 0

    async def examine(self, arms: Arms, halt: Halt, on_done: Callable[[], None]) -> Examined:
        """See `Panel`."""
        return Examined({name: [examine(self._graph, self._labeller, *pair) for pair in played] for name, played in arms.items()})

    async def judging(self, examined: Sequence[Examined], halt: Halt) -> Judging:
        """See `Panel`."""
        return Judging()


class Models:
    """Two judges, and the first of them as labeller."""

    def __init__(self, run: RunInput, graph: Graph, desk: ClientPool, dataset: Path | None) -> None:
        asked, self._dataset, self._seed = run.evaluation, dataset, run.evaluation.seed
        named = [("evaluation.judge", asked.judge), ("evaluation.secondJudge", asked.second_judge)]
        self._judges = [
            ModelJudge(graph, judge, desk.caller(judge, field, f"judge-{place}"), run.keys.report)
            for place, (field, judge) in enumerate(named) if judge is not None
        ]  # fmt: skip
        self._labeller = ModelLabeller(graph, asked.judge, desk.caller(asked.judge, "evaluation.judge", "labeller"))
        self._slots = asyncio.Semaphore(CONCURRENCY)

    def steps(self, conversations: int) -> int:
        """A label and, per judge, a judgement for each, and some judgements twice."""
        return conversations + len(self._judges) * (conversations + round(TWICE * conversations))

    async def examine(self, arms: Arms, halt: Halt, on_done: Callable[[], None]) -> Examined:
        """See `Panel`."""
        replays = await self._replays(arms, halt, on_done)
        judged = await judge_all(self._judges, arms, seed=self._seed, slots=self._slots, halt=halt, on_done=on_done)
        rows = {name: zip(arms[name], replays[name], judged.arms[name], strict=True) for name in arms}
        found = {name: [Result(*pair, replayed, scores) for pair, replayed, scores in row] for name, row in rows.items()}
        return Examined(found, judged.repeats)

    async def judging(self, examined: Sequence[Examined], halt: Halt) -> Judging:
        """See `Panel`. Raises a StageError when there is no going on."""
        known = None
        if self._dataset is not None:
            known = await self._labeller.accuracy(self._dataset, seed=self._seed, slots=self._slots, halt=halt)
        repeats = tuple(repeat for each in examined for repeat in each.repeats)
        return Judging(tuple(judge.name for judge in self._judges), repeats, self._labeller.name, known)

    async def _replays(self, arms: Arms, halt: Halt, on_done: Callable[[], None]) -> dict[str, list[Replay]]:
        jobs = [pair for played in arms.values() for pair in played]

        async def label(pair: Played) -> Replay:
            return await self._labeller.replay(*pair)

        labelled = iter(await shuffled(jobs, label, seed=self._seed, slots=self._slots, halt=halt, on_done=on_done))
        return {name: list(islice(labelled, len(played))) for name, played in arms.items()}


def examine(graph: Graph, labeller: Labeller, scenario: Scenario, dialogue: Dialogue) -> Result:
    """A played scenario labelled, replayed and judged."""
    labels = [labeller.label(reply.text) for reply in dialogue.replies]
    replayed = replay(graph, scenario.path, scenario.values, labels)
    return Result(scenario, dialogue, replayed, (judge(scenario.path, scenario.lines, dialogue, replayed),))
