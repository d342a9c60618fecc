"""Who plays in an evaluation: the candidate, older models beside it, baselines, and the customers of them all."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx

from subterra_api.digest import meaning
from subterra_api.job_contract.artifacts import PROCEDURE_FILE, artifact_path, work_path
from subterra_api.job_contract.environment import REFERENCES_VARIABLE, VLLM_PORT, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import Baseline
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import agent_wordings
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.edit_impact import Edits, compiled_from
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate import user_simulator
from subterra_jobs.evaluate.simulate.agents import Condition, InContext, Served
from subterra_jobs.evaluate.simulate.orchestrator_agent import Orchestrator
from subterra_jobs.evaluate.simulate.simulation import Cast
from subterra_jobs.evaluate.simulate.user_simulator import ModelUsers, ScriptedUsers
from subterra_jobs.evaluate.simulate.vllm_client import TIMEOUT_SECONDS, Candidate, connect
from subterra_jobs.llm.client import TURN_TOKENS
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.response_cache import AnswerStore, key_of
from subterra_jobs.stage.runner import StageContext

START_SECONDS = 600.0
"""How long a vLLM may take to load its model."""
_KINDS = {"InContext": "in-context", "Orchestrator": "orchestrator"}


@dataclass(frozen=True)
class Server:
    """Where a model is served, and what it is."""

    name: str
    url: str
    digest: str


def answers_folder(run: RunInput) -> str:
    """Where answers are kept, relative to the store, while the evaluation is not finished."""
    return f"{work_path(run.keys.report)}/answers"


def customers(run: RunInput, desk: ClientPool) -> Cast:
    """Those of the run's simulator. Raises InvalidInputError."""
    if run.evaluation.simulator.name == "scripted":
        return ScriptedUsers()
    return ModelUsers(desk.caller(run.evaluation.simulator, "evaluation.simulator", "simulator"), run.procedure)


def baselines(run: RunInput, graph: Graph, desk: ClientPool) -> list[Condition]:
    """Those of the run, as conditions. Raises InvalidInputError."""
    return [_baseline(run, graph, desk, place, each) for place, each in enumerate(run.evaluation.baselines)]


def _baseline(run: RunInput, graph: Graph, desk: ClientPool, place: int, asked: Baseline) -> Condition:
    caller = desk.caller(asked.provider, f"evaluation.baselines[{place}].provider", f"baseline-{place}")
    speaker = InContext(graph.spec, caller) if asked.kind == "InContext" else Orchestrator(graph, caller)
    names = [f"{_KINDS[each.kind]} {each.provider.model}" for each in run.evaluation.baselines]
    again = f" ({names[: place + 1].count(names[place])})" if names[place] in names[:place] else ""
    fingerprint = key_of(asked.kind, meaning(asked.provider), run.procedure_digest, speaker.instructions)
    return Condition(names[place] + again, speaker, fingerprint)


async def served(context: StageContext, graph: Graph, stack: AsyncExitStack) -> tuple[list[Condition], dict[str, str]]:
    """The candidate and the references, once their servers answer, and what tells of them in the report.

    Raises InfrastructureError. ``stack`` closes the connections.
    """
    run, store = context.input, context.store
    remember = run.evaluation.simulator.name != "scripted"
    answers = AnswerStore(store, f"{answers_folder(run)}/served") if remember else None
    most = reply_budget(graph)

    async def one(server: Server) -> tuple[Condition, str, str]:
        limits = httpx.Limits(max_connections=None)
        client = httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_SECONDS, trust_env=False, limits=limits)
        http = await stack.enter_async_context(client)
        model, version = await connect(http, START_SECONDS)
        fingerprint = key_of("vllm", server.digest, version, most)
        return Condition(server.name, Served(Candidate(http, model, most), fingerprint, answers), fingerprint), model, version

    made = store.digest(artifact_path("train", run.keys.model))
    found = await asyncio.gather(*(one(server) for server in servers(run, made)))
    return [condition for condition, _, _ in found], {"model": found[0][1], "server_version": found[0][2]}


def servers(run: RunInput, candidate: str | None) -> list[Server]:
    """Where the models of the run are served. Raises InvalidInputError when the pod does not say."""
    urls = json.loads(os.environ.get(REFERENCES_VARIABLE, "[]"))
    if len(urls) != len(run.references):
        raise InvalidInputError(f"{REFERENCES_VARIABLE} names {len(urls)} servers for {len(run.references)} references")
    first = Server(CANDIDATE, os.environ.get(VLLM_VARIABLE, f"http://127.0.0.1:{VLLM_PORT}"), candidate or run.keys.model)
    beside = [Server(each.role.lower(), url, each.model_digest) for each, url in zip(run.references, urls, strict=True)]
    return [first, *beside]


def reply_budget(graph: Graph) -> int:
    """Tokens for one reply: a token per character of the longest step, so that no tokenizer cuts a proper reply short."""
    longest = max((len(text) for node in graph.spec.nodes if node.role == "agent" for text in agent_wordings(node)), default=0)
    return max(TURN_TOKENS, longest)


def beside(context: StageContext, cast: list[Scenario]) -> dict[str, list[Scenario]]:
    """The scenarios of each reference, which know what an edit since then touches."""
    found = {}
    for reference in context.input.references:
        before = compiled_from(context.store.read(f"{reference.model_path}/{PROCEDURE_FILE}"))
        edits = Edits(before, context.input.procedure)
        found[reference.role.lower()] = [replace(each, touched=edits.touch(each.path)) for each in cast]
    return found


def simulated_by(run: RunInput) -> str:
    """The fingerprint of the customers."""
    return user_simulator.fingerprint(run.evaluation.simulator)


CANDIDATE, REFERENCES = "candidate", ("serving", "anchor")
