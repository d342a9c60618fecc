"""Examiners, which label and judge conversations: by rules where the words are the procedure's own, else by models."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.judging import CALL_BY_CALL, JudgingSettings
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.call_conformance import with_calls_checked
from subterra_jobs.evaluate.judge.conformance import Replay, replay
from subterra_jobs.evaluate.judge.free_words.llm_labeller import LLMLabeller, draw_gold_conversations
from subterra_jobs.evaluate.judge.llm_judge import REPEAT_SHARE, LLMJudge, draw_repeats, judge_all
from subterra_jobs.evaluate.judge.results import ArmResults, JudgingQuality, Repeat, Result
from subterra_jobs.evaluate.judge.rule_judge import judge_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import Labeller, RuleLabeller
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule, run_shuffled
from subterra_jobs.evaluate.simulate.conversation import ArmSimulations, Conversation, Simulation
from subterra_jobs.llm.batches.batch_runner import UsedCall
from subterra_jobs.llm.batches.call_collector import CallCollector, UnansweredCallError
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.cancellation import Cancellation

CONCURRENCY = 64
"""Conversations labelled or judged at a time; the account's limits may allow fewer calls."""
BATCH_ROUNDS = 2
"""Batches about one conversation before the rest is asked call by call."""
LABELLER_USE = "labeller"


@dataclass(frozen=True)
class ExaminedBatch:
    """Results of each arm, in the order of its scenarios, and judgements that were repeated."""

    arms: ArmResults
    repeats: tuple[Repeat, ...] = ()


class Examiner(Protocol):
    """Turns conversations into results."""

    def steps(self, conversations: int) -> int:
        """Number of steps for this many conversations, for progress."""
        ...

    async def prepare(self, cancellation: Cancellation) -> None:
        """Takes up what an earlier attempt of this evaluation left, before anything else is paid."""
        ...

    async def examine(self, arms: ArmSimulations, cancellation: Cancellation, on_done: Callable[[], None]) -> ExaminedBatch:
        """Labels and judges; calls `on_done` after each step. Raises a StageError when the stage cannot go on."""
        ...

    async def quality(self, batches: Sequence[ExaminedBatch], cancellation: Cancellation) -> JudgingQuality:
        """Names of judges and labeller, and how reliable they are."""
        ...


def make_examiner(
    run: RunInput, graph: Graph, pool: ClientPool, dataset: Path | None, judging: JudgingSettings = CALL_BY_CALL
) -> Examiner:
    """The run's examiner. Without a dataset the labeller's accuracy stays unknown. Raises InvalidInputError."""
    return RuleExaminer(graph) if run.evaluation.judge.name == "scripted" else LLMExaminer(run, graph, pool, dataset, judging)


class RuleExaminer:
    """Labels and judges by rules; needs replies in the procedure's own words."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._labeller = graph, RuleLabeller(graph)

    def steps(self, conversations: int) -> int:
        """Always 0: rules take no time."""
        return 0

    async def prepare(self, cancellation: Cancellation) -> None:
        """See `Examiner`."""

    async def examine(self, arms: ArmSimulations, cancellation: Cancellation, on_done: Callable[[], None]) -> ExaminedBatch:
        """See `Examiner`."""
        return ExaminedBatch(
            {
                name: [examine_by_rules(self._graph, self._labeller, *simulation) for simulation in simulations]
                for name, simulations in arms.items()
            }
        )

    async def quality(self, batches: Sequence[ExaminedBatch], cancellation: Cancellation) -> JudgingQuality:
        """See `Examiner`."""
        return JudgingQuality()


class LLMExaminer:
    """Two judges, and the first of them as labeller."""

    def __init__(
        self, run: RunInput, graph: Graph, pool: ClientPool, dataset: Path | None, judging: JudgingSettings = CALL_BY_CALL
    ) -> None:
        settings, self._dataset, self._seed = run.evaluation, dataset, run.evaluation.seed
        fields = [("evaluation.judge", settings.judge), ("evaluation.secondJudge", settings.second_judge)]
        clients = {
            f"judge-{index}": (provider, pool.client(provider, field, f"judge-{index}"))
            for index, (field, provider) in enumerate(fields)
            if provider is not None
        }
        salt, first = run.keys.report, settings.judge
        self._judges = [LLMJudge(graph, provider, client, salt) for provider, client in clients.values()]
        reader = pool.client(first, "evaluation.judge", LABELLER_USE)
        self._labeller = LLMLabeller(graph, first, reader)
        self._batches = pool.batch_runner([*clients, LABELLER_USE], judging)
        self._collectors = {use: CallCollector(client) for use, (_, client) in clients.items()} | {
            LABELLER_USE: CallCollector(reader)
        }
        self._collecting_judges = [LLMJudge(graph, provider, self._collectors[use], salt) for use, (provider, _) in clients.items()]
        self._collecting_labeller = LLMLabeller(graph, first, self._collectors[LABELLER_USE])
        self._semaphore = asyncio.Semaphore(CONCURRENCY)

    def steps(self, conversations: int) -> int:
        """One label and, per judge, one judgement for each, plus repeated judgements."""
        return conversations + len(self._judges) * (conversations + round(REPEAT_SHARE * conversations))

    async def prepare(self, cancellation: Cancellation) -> None:
        """See `Examiner`."""
        await self._batches.start(cancellation)

    async def examine(self, arms: ArmSimulations, cancellation: Cancellation, on_done: Callable[[], None]) -> ExaminedBatch:
        """See `Examiner`."""
        await self._ask_in_batches(arms, cancellation)
        schedule = Schedule(self._seed, self._semaphore, cancellation, on_done)
        replays = await self._replays(arms, schedule)
        judged = await judge_all(self._judges, arms, schedule)
        rows = {name: zip(arms[name], replays[name], judged.arms[name], strict=True) for name in arms}
        results = {
            name: [Result(*simulation, replayed, judgements) for simulation, replayed, judgements in row]
            for name, row in rows.items()
        }
        return ExaminedBatch(results, judged.repeats)

    async def quality(self, batches: Sequence[ExaminedBatch], cancellation: Cancellation) -> JudgingQuality:
        """See `Examiner`. Raises a StageError when the stage cannot go on."""
        await self._batches.drain()
        accuracy = None
        if self._dataset is not None:
            accuracy = await self._labeller.accuracy(self._dataset, Schedule(self._seed, self._semaphore, cancellation))
        repeats = tuple(repeat for batch in batches for repeat in batch.repeats)
        return JudgingQuality(tuple(judge.name for judge in self._judges), repeats, self._labeller.name, accuracy)

    async def _ask_in_batches(self, arms: ArmSimulations, cancellation: Cancellation) -> None:
        """Has batches answer what will be asked about these conversations, as far as they do: twice, because a call may fail or its
        response be unusable. All responses are kept under the keys of single calls, which need not be paid then.
        """
        for _ in range(BATCH_ROUNDS):
            if not self._batches.is_needed or cancellation.cancelled:
                return
            if not (calls := await self._unanswered(arms)):
                return
            await self._batches.answer(calls, cancellation)

    async def _unanswered(self, arms: ArmSimulations) -> list[UsedCall]:
        """The next calls about these conversations that lack a response, in an order drawn from the seed."""
        for collector in self._collectors.values():
            collector.calls.clear()
        jobs = [(simulation, 0) for simulations in arms.values() for simulation in simulations]
        jobs += [(arms[arm][index], 1) for arm, index in draw_repeats(arms, self._seed)]
        for (scenario, conversation), repeat in jobs:
            for judge in self._collecting_judges:
                await judge.ask_all(scenario, conversation, repeat)
            if not repeat:
                with suppress(UnansweredCallError):
                    await self._collecting_labeller.replay(scenario, conversation)
        for gold in draw_gold_conversations(self._dataset, self._seed) if self._dataset else ():
            with suppress(UnansweredCallError):
                await self._collecting_labeller.align(gold.chat, gold.values, gold.id)
        calls = [(use, call) for use, collector in self._collectors.items() for call in collector.calls.values()]
        return random.Random(f"evaluate/{self._seed}/batches").sample(calls, len(calls))

    async def _replays(self, arms: ArmSimulations, schedule: Schedule) -> Mapping[str, list[Replay]]:
        async def label(simulation: Simulation) -> Replay:
            return await self._labeller.replay(*simulation)

        jobs = [simulation for simulations in arms.values() for simulation in simulations]
        replays = iter(await run_shuffled(jobs, label, schedule))
        return {name: list(islice(replays, len(simulations))) for name, simulations in arms.items()}


def examine_by_rules(graph: Graph, labeller: Labeller, scenario: Scenario, conversation: Conversation) -> Result:
    """Result of one scenario by the labeller and the rule judge."""
    labels = labeller.labels([reply.text for reply in conversation.replies], scenario.values)
    replayed = replay(graph, scenario.path, scenario.values, labels)
    replayed = with_calls_checked(graph, replayed, scenario.values, conversation.chat)
    judgement = judge_by_rules(scenario.path, scenario.lines, conversation, replayed)
    return Result(scenario, conversation, replayed, (judgement,))
