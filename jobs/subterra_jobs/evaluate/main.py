"""Wires the evaluation: scenarios → conversations of all arms → labels and judgements → scores → report."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from subterra_api.job_contract.artifacts import LOSS_LOG_FILE, artifact_path
from subterra_api.job_contract.messages import Gate
from subterra_api.v1alpha1.scores import JudgeReliability, Scores
from subterra_core.gate.verdict import INTERIM_BLOCK, futile
from subterra_core.model_retirements import retiring_models
from subterra_core.pricing import format_usd
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate import robustness_run
from subterra_jobs.evaluate.analysis.arms import judge_fingerprints
from subterra_jobs.evaluate.analysis.gate_statistics import gate_statistics
from subterra_jobs.evaluate.analysis.judge_agreement import judge_reliability
from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve, parse_learning_curve
from subterra_jobs.evaluate.analysis.robustness_summary import Robustness, fabrication
from subterra_jobs.evaluate.analysis.summary import mean_tokens, summarise
from subterra_jobs.evaluate.analysis.trial_summary import TrialResults, collect_trials
from subterra_jobs.evaluate.cost_check import PlannedWork, check_cost
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import labelling_quality
from subterra_jobs.evaluate.judge.free_words.llm_labeller import GOLD_SAMPLE
from subterra_jobs.evaluate.judge.handling import HandlingExaminer
from subterra_jobs.evaluate.judge.judges import ExaminedBatch, Examiner, make_examiner
from subterra_jobs.evaluate.judge.results import RULES, ArmResults, JudgingQuality, Result, counted
from subterra_jobs.evaluate.progress import StepCounter, closing_message, report_progress
from subterra_jobs.evaluate.report.report import Evaluated, provenance, write_report
from subterra_jobs.evaluate.scenarios.build import build_scenarios, rare_branch_scenarios
from subterra_jobs.evaluate.scenarios.repeated_trials import TrialPlan, plan_trials
from subterra_jobs.evaluate.scenarios.robustness import RobustnessBlock, build_robustness
from subterra_jobs.evaluate.scenarios.scenario import CustomerSignature, Scenario
from subterra_jobs.evaluate.scenarios.training_overlap import count_in_training, training_signatures
from subterra_jobs.evaluate.scheduling import Schedule, block_slices, run_in_blocks
from subterra_jobs.evaluate.simulate import participants
from subterra_jobs.evaluate.simulate.agents import Arm
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.model_switch import ModelSwitch, play_in_turn
from subterra_jobs.evaluate.simulate.simulation import UserFactory, agent_turn_limit, simulate_all
from subterra_jobs.evaluate.simulate.user_simulator import simulator_fingerprint
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.cancellation import TERMINATED, Cancellation, StoppedError, cancelled_by_signals
from subterra_jobs.stage.runner import StageContext, StageOutcome


@dataclass(frozen=True)
class _Inputs:
    """What the run determines before any provider or server is asked."""

    context: StageContext
    graph: Graph
    gate: Gate
    dataset: Path | None
    """Conversations that the candidate was trained on; `None` when they are no longer in the store."""
    training: frozenset[CustomerSignature]
    scenarios: list[Scenario]
    rare_branches: list[Scenario]
    """Further customers of the candidate on branches that few others take."""
    robustness: RobustnessBlock
    trials: TrialPlan
    """Further conversations of the candidate with some of the customers."""

    @property
    def candidate_only(self) -> list[Scenario]:
        """Scenarios that only the candidate plays, and that are examined like all others."""
        return [*self.rare_branches, *self.trials.scenarios]


@dataclass(frozen=True)
class _Participants:
    """Arms with their finished conversations, the customers, and the examiner of the conversations."""

    arms: Sequence[Arm]
    caches: Mapping[str, ConversationCache]
    users: UserFactory
    examiner: Examiner
    server: Mapping[str, str]
    """Model name and server version of the candidate, for the report."""
    switch: ModelSwitch | None
    """Starts the arms' servers where they are served one after another."""


@dataclass(frozen=True)
class _Findings:
    """What the conversations of all arms, and the candidate's further ones, came to."""

    results: ArmResults
    rare: Sequence[Result]
    trials: TrialResults | None
    robustness: Robustness
    quality: JudgingQuality


def work(context: StageContext) -> StageOutcome:
    """The stage's work: simulates and judges every arm, and leaves the report in `context.output`."""
    for name in ("httpx", "httpx2"):  # they log a line for every request
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return asyncio.run(_evaluate(context))
    except StoppedError:
        raise SystemExit(TERMINATED) from None


async def _evaluate(context: StageContext) -> StageOutcome:
    inputs = _inputs(context)
    async with AsyncExitStack() as stack:
        cancellation = stack.enter_context(cancelled_by_signals())
        pool = _client_pool(context, cancellation)
        stack.push_async_callback(pool.close)
        taking_part = await _connect(inputs, pool, stack)
        await taking_part.examiner.prepare(cancellation)
        forecast = await check_cost(context, _planned_work(inputs, taking_part), pool)
        conforming = len(inputs.scenarios) * len(taking_part.arms) + len(inputs.candidate_only)
        conversations, further_steps = conforming + len(inputs.robustness.scenarios), taking_part.examiner.steps(conforming)
        progress = report_progress(context, pool, conversations, further_steps, forecast)
        steps = await stack.enter_async_context(progress)
        if taking_part.switch:
            await _play_in_turn(inputs, taking_part, taking_part.switch, steps, cancellation)
        batches = await _simulate_and_examine(inputs, taking_part, steps, cancellation)
        further = await _examine_candidate_alone(inputs, taking_part, batches, steps, cancellation)
        rare, trials = _rare_branches_and_trials(inputs, batches, further)
        quality = await taking_part.examiner.quality(batches, cancellation)
        results, robustness = await _beyond_the_procedure(inputs, taking_part, _joined(batches), steps, cancellation)
        figures = await pool.stats()
    results = _require_counted(results, {arm.name for arm in taking_part.arms if arm.stored})
    details = _provenance(inputs, taking_part) | (
        forecast.summary(figures.usd, figures.cached_share) if forecast and figures else {}
    )
    scores = _report(inputs, _Findings(results, rare, trials, robustness, quality), details)
    message = closing_message(results, scores)
    if figures is None:
        return StageOutcome(message, scores=scores)
    return StageOutcome(message, format_usd(figures.usd), figures.tokens, scores)


def _report(inputs: _Inputs, findings: _Findings, details: Mapping[str, str]) -> Scores:
    """Writes the report and returns the scores in it."""
    context, scores = inputs.context, _scores(inputs, findings)
    evaluated = Evaluated(
        run=context.input,
        graph=inputs.graph,
        arms=findings.results,
        scores=scores,
        provenance=details,
        quality=findings.quality,
        gate=inputs.gate,
        rare_branches=findings.rare,
        robustness=findings.robustness,
        retiring=retiring_models(context.input, context.environment.today),
        trials=findings.trials,
        learning_curve=_learning_curve(context),
    )
    write_report(context.output, evaluated)
    return scores


def _inputs(context: StageContext) -> _Inputs:
    graph, dataset = Graph(context.input.procedure), _dataset(context)
    training = training_signatures(dataset) if dataset else frozenset()
    settings = context.input.evaluation
    scenarios = build_scenarios(graph, settings, training)
    rare = rare_branch_scenarios(graph, settings, scenarios, training)
    robustness = build_robustness(graph, settings, robustness_run.customer_sources(graph))
    trials = plan_trials(graph, settings, scenarios, training)
    return _Inputs(context, graph, context.environment.gate, dataset, training, scenarios, rare, robustness, trials)


def _dataset(context: StageContext) -> Path | None:
    path = artifact_path("generate", context.input.keys.dataset)
    return context.store.local(path) if context.store.manifest(path) else None


def _client_pool(context: StageContext, cancellation: Cancellation) -> ClientPool:
    """Clients of all providers; they refuse to spend once the lease is lost or the stage is stopped."""

    def check() -> None:
        context.lease.check()
        cancellation.raise_if_cancelled()

    run = context.input
    folder = participants.responses_folder(run)
    return ClientPool(context.store, run.run, "evaluate", context.environment, folder, check=check)


async def _connect(inputs: _Inputs, pool: ClientPool, stack: AsyncExitStack) -> _Participants:
    context, run, graph = inputs.context, inputs.context.input, inputs.graph
    # Resolve all providers before the first paid call, so that a bad setting costs nothing.
    users, baselines = participants.user_factory(run, pool), participants.baseline_arms(run, graph, pool)
    examiner = make_examiner(run, graph, pool, inputs.dataset, context.environment.judging)
    served, server, switch = await participants.connect_arms(context, graph, stack)
    arms = [*served, *baselines]
    simulator = simulator_fingerprint(run.evaluation.simulator)
    caches = {arm.name: ConversationCache(context.store, arm.fingerprint, simulator) for arm in arms}
    return _Participants(arms, caches, users, examiner, server, switch)


def _learning_curve(context: StageContext) -> LearningCurve | None:
    """The losses of the candidate's training; `None` for a model that was not trained here, or before losses were kept."""
    return parse_learning_curve(context.store.read(f"{artifact_path('train', context.input.keys.model)}/{LOSS_LOG_FILE}"))


def _planned_work(inputs: _Inputs, taking_part: _Participants) -> PlannedWork:
    stored = [taking_part.caches[arm.name] for arm in taking_part.arms if arm.stored]
    found = sum(cache.get(scenario.id) is not None for cache in stored for scenario in inputs.scenarios)
    caches = [taking_part.caches[arm.name] for arm in taking_part.arms if not arm.stored]
    gold = GOLD_SAMPLE if inputs.dataset else 0
    return PlannedWork(inputs.graph, inputs.scenarios, caches, gold, inputs.candidate_only, found)


async def _play_in_turn(
    inputs: _Inputs, taking_part: _Participants, switch: ModelSwitch, steps: StepCounter, cancellation: Cancellation
) -> None:
    """Plays the conversations of models that are served one after another, so that the arms' caches have them."""
    limit, concurrency = agent_turn_limit(inputs.scenarios), inputs.context.environment.concurrency
    schedule = Schedule(inputs.context.input.evaluation.seed, asyncio.Semaphore(concurrency), cancellation, steps.increment_ahead)

    async def play(arm: Arm, scenarios: Sequence[Scenario]) -> None:
        await simulate_all([arm], scenarios, taking_part.users, schedule, max_agent_turns=limit, caches=taking_part.caches)

    arms = [arm for arm in taking_part.arms if arm.name in switch.clients]
    await play_in_turn(switch, arms, inputs.scenarios, taking_part.caches, play)


async def _simulate_and_examine(
    inputs: _Inputs, taking_part: _Participants, steps: StepCounter, cancellation: Cancellation
) -> list[ExaminedBatch]:
    """Simulates and judges block by block, until an interim look finds that the candidate can no longer pass.

    A reference has its own copy of the scenarios, which flags those that an edit affects.
    """
    arms, scenarios, gate = taking_part.arms, inputs.scenarios, inputs.gate
    concurrency = inputs.context.environment.concurrency
    flagged = participants.scenarios_by_reference(inputs.context, scenarios)
    semaphore, limit = asyncio.Semaphore(concurrency * len(arms)), agent_turn_limit(scenarios)

    async def examine(block: slice, cancellation: Cancellation) -> ExaminedBatch:
        schedule = Schedule(inputs.context.input.evaluation.seed, semaphore, cancellation, steps.increment)
        conversations = await simulate_all(
            arms, scenarios[block], taking_part.users, schedule, max_agent_turns=limit, caches=taking_part.caches
        )
        simulations = {
            name: [*zip(flagged.get(name, scenarios)[block], of_arm, strict=True)] for name, of_arm in conversations.items()
        }
        return await taking_part.examiner.examine(simulations, cancellation, steps.increment)

    def is_futile(batches: Sequence[ExaminedBatch]) -> bool:
        return futile(gate_statistics(_joined(batches)), gate.policy, gate.attempt)

    return await run_in_blocks(block_slices(len(scenarios), INTERIM_BLOCK), examine, is_futile, cancellation)


def _ended_early(inputs: _Inputs, batches: Sequence[ExaminedBatch]) -> bool:
    return sum(len(batch.arms[participants.CANDIDATE]) for batch in batches) < len(inputs.scenarios)


def _rare_branches_and_trials(
    inputs: _Inputs, batches: Sequence[ExaminedBatch], further: Sequence[Result]
) -> tuple[Sequence[Result], TrialResults | None]:
    """Results on rare branches, and of all trials if the run asks for more than one, from those of `candidate_only`."""
    rare, others = further[: len(inputs.rare_branches)], further[len(inputs.rare_branches) :]
    if inputs.trials.trials == 1:
        return rare, None
    ended_early = robustness_run.ENDED_EARLY if _ended_early(inputs, batches) else None
    return rare, collect_trials(inputs.trials, _joined(batches)[participants.CANDIDATE], others, ended_early)


async def _examine_candidate_alone(
    inputs: _Inputs, taking_part: _Participants, batches: Sequence[ExaminedBatch], steps: StepCounter, cancellation: Cancellation
) -> Sequence[Result]:
    """The candidate's conversations that no other arm has, on rare branches and of further trials.

    None after an evaluation that ended early.
    """
    candidate, scenarios = taking_part.arms[0], inputs.candidate_only
    if not scenarios or _ended_early(inputs, batches):
        return ()
    concurrency = inputs.context.environment.concurrency
    schedule = Schedule(inputs.context.input.evaluation.seed, asyncio.Semaphore(concurrency), cancellation, steps.increment)
    conversations = await simulate_all(
        [candidate],
        scenarios,
        taking_part.users,
        schedule,
        max_agent_turns=agent_turn_limit(scenarios),
        caches=taking_part.caches,
    )
    simulations = {candidate.name: [*zip(scenarios, conversations[candidate.name], strict=True)]}
    return (await taking_part.examiner.examine(simulations, cancellation, steps.increment)).arms[candidate.name]


async def _beyond_the_procedure(
    inputs: _Inputs, taking_part: _Participants, arms: ArmResults, steps: StepCounter, cancellation: Cancellation
) -> tuple[ArmResults, Robustness]:
    """The results with what the candidate asserted, and its conversations with robustness customers."""
    settings, candidate = inputs.context.input.evaluation, arms[participants.CANDIDATE]
    models = inputs.context.environment.models
    reader, labeller = await asyncio.to_thread(robustness_run.reply_reader, inputs.graph, candidate, models)
    quality = await asyncio.to_thread(labelling_quality, labeller, inputs.dataset, settings.seed) if labeller else None
    results = robustness_run.with_assertions(candidate, reader)
    block = robustness_run.playable(inputs.robustness, settings, reader, results)
    semaphore = asyncio.Semaphore(inputs.context.environment.concurrency)
    robustness = await robustness_run.play_robustness(
        block,
        taking_part.arms[0],
        HandlingExaminer(
            inputs.graph, reader, robustness_run.otherwise_recognizer(), robustness_run.answer_reader(inputs.graph, models)
        ),
        Schedule(settings.seed, semaphore, cancellation, steps.increment),
        taking_part.caches,
    )
    return {**arms, participants.CANDIDATE: results}, replace(robustness, labelling=quality)


def _scores(inputs: _Inputs, findings: _Findings) -> Scores:
    settings, results, robustness = inputs.context.input.evaluation, findings.results, findings.robustness
    scripted = settings.simulator.name == "scripted"
    covers = "scripted customers" if scripted else "replies that rules recognize" if settings.judge.name == "scripted" else None
    more: dict[str, object] = {
        "planned": len(inputs.scenarios),
        "tokens": mean_tokens(inputs.graph, results[participants.CANDIDATE]),
        "fabrication": fabrication(results[participants.CANDIDATE], robustness),
        "robustness": robustness.scores(),
        "covers": covers,
    }
    scores = summarise(results, settings.seed, findings.rare)
    if scores.statistics is not None:
        more["statistics"] = scores.statistics.model_copy(update={"judging": _judging(results, findings.quality)})
    if findings.trials is not None:
        more["trials"] = findings.trials.scores()
    return scores.model_copy(update=more)


def _judging(results: ArmResults, quality: JudgingQuality) -> JudgeReliability | None:
    """Reliability of the judges, and which they are; `None` where rules judge."""
    prints = tuple(each for each in judge_fingerprints(results) if each != RULES)
    found = judge_reliability(results, quality.repeats)
    return (found or JudgeReliability()).model_copy(update={"fingerprints": prints}) if prints else found


def _joined(batches: Sequence[ExaminedBatch]) -> ArmResults:
    return {name: [result for batch in batches for result in batch.arms[name]] for name in batches[0].arms}


def _require_counted(arms: ArmResults, stored: Collection[str] = ()) -> ArmResults:
    """The arms, without `stored` ones that have had no such conversation before. Raises InvalidInputError."""
    shown = {name: results for name, results in arms.items() if name not in stored or counted(results)}
    for name, results in shown.items():
        if not counted(results):
            raise InvalidInputError(
                f"the simulated customer left early in all {len(results)} conversations with {name}, whose steps were right; "
                "choose another model for evaluation.simulator"
            )
    return shown


def _provenance(inputs: _Inputs, taking_part: _Participants) -> dict[str, str]:
    details = provenance(inputs.context.input, inputs.context.store, **taking_part.server)
    return details | {"scenarios also in training": str(count_in_training(inputs.scenarios, inputs.training))}
