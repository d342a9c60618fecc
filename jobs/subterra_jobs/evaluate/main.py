"""Wires the evaluation: scenarios → conversations with the candidate → scores → report."""

import asyncio
import logging
import os
from collections.abc import Sequence

from subterra_api.contract import VLLM_PORT, artifact_path
from subterra_api.graph import Graph
from subterra_api.v1alpha1.scores import Interval, Scores
from subterra_jobs.common.stage import Outcome, StageContext
from subterra_jobs.evaluate import report, scenarios
from subterra_jobs.evaluate.judge import GRACEFUL
from subterra_jobs.evaluate.label import Labeller, agent_wordings
from subterra_jobs.evaluate.play import play
from subterra_jobs.evaluate.results import Result
from subterra_jobs.evaluate.scoring import MIN_CHALLENGES, examine, summarise
from subterra_jobs.evaluate.sufficient import CANDIDATE
from subterra_jobs.providers.client import TURN_TOKENS

URL_VARIABLE = "SUBTERRA_VLLM_URL"


def work(context: StageContext) -> Outcome:
    """The stage's work: plays and judges the candidate and leaves the report in ``context.output``."""
    settings, graph = context.input.evaluation, Graph(context.input.procedure)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for every turn
    labeller = Labeller(graph)
    trained = _trained(context)
    cast = scenarios.build(graph, settings, trained)
    played = asyncio.run(
        play(
            os.environ.get(URL_VARIABLE, f"http://127.0.0.1:{VLLM_PORT}"), cast, max_tokens=reply_budget(graph),
        )
    )  # fmt: skip
    results = [examine(graph, labeller, *pair) for pair in zip(cast, played.dialogues, strict=True)]
    arms = {CANDIDATE: results}
    scores = summarise(arms, settings.seed)
    about = report.provenance(context.input, context.store, model=played.model, server_version=played.server_version)
    about["scenarios also in training"] = str(scenarios.overlap(cast, trained))
    report.write(context.output, report.build(context.input, graph, arms, scores, about), graph, arms)
    return Outcome(message(results, scores), scores=scores)


def reply_budget(graph: Graph) -> int:
    """Tokens for one reply: a token per character of the longest step, so that no tokenizer cuts a proper reply short."""
    longest = max((len(text) for node in graph.spec.nodes if node.role == "agent" for text in agent_wordings(node)), default=0)
    return max(TURN_TOKENS, longest)


def message(results: Sequence[Result], scores: Scores) -> str:
    """The stage in one or two sentences."""
    unplayed = sum(result.dialogue.error is not None for result in results)
    parts = [
        f"{scores.scenarios} conversations: conformance {_percent(scores.conformance)}, failures {_percent(scores.failure_rate)}",
    ]
    if unplayed:
        parts.append(f"{unplayed} could not be played and count as failed")
    if GRACEFUL not in scores.criteria:
        parts.append(f"Graceful Handling is left out, since fewer than {MIN_CHALLENGES} customers posed a challenge")
    return "; ".join(parts)


def _percent(value: Interval) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})"


def _trained(context: StageContext) -> frozenset[scenarios.Mark]:
    """What the training's customers said; nothing when the dataset is no longer in the store."""
    path = artifact_path("generate", context.input.keys.dataset)
    return scenarios.training_marks(context.store.local(path)) if context.store.manifest(path) else frozenset()
