"""Participants of an evaluation: the candidate, the references, the baselines, and their customers."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx

from subterra_api.digest import significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE, artifact_path, work_path
from subterra_api.job_contract.environment import REFERENCES_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_core.procedure.diff import ProcedureDiff, stored_procedure
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import AbsentAgent, Arm, InContextAgent, ServedAgent
from subterra_jobs.evaluate.simulate.model_switch import START_SECONDS, ModelSwitch
from subterra_jobs.evaluate.simulate.orchestrator_agent import OrchestratorAgent
from subterra_jobs.evaluate.simulate.simulation import UserFactory
from subterra_jobs.evaluate.simulate.tool_use import ToolBench
from subterra_jobs.evaluate.simulate.user_simulator import LLMUserFactory, ScriptedUserFactory
from subterra_jobs.evaluate.simulate.vllm_client import TIMEOUT_SECONDS, VLLMClient, wait_for_server
from subterra_jobs.llm.behavior.thinking import request_fields
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.response_cache import ResponseCache, cache_key
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import StageContext

CANDIDATE, REFERENCES = "candidate", ("serving", "anchor")
"""Names of the arms that the gate compares."""
IN_CONTEXT = "in-context"
"""What the names of arms of that kind begin with."""
_KINDS = {"InContext": IN_CONTEXT, "Orchestrator": "orchestrator"}


@dataclass(frozen=True)
class ModelServer:
    """A served model: arm name, URL and model digest."""

    name: str
    url: str
    digest: str
    tools: bool = True
    """Whether it was trained with tools, if the procedure has any."""


def responses_folder(run: RunInput) -> str:
    """Folder of the response caches in the store, used until the evaluation is finished."""
    return f"{work_path(run.keys.report)}/answers"


def user_factory(run: RunInput, pool: ClientPool) -> UserFactory:
    """The run's simulated customers. Raises InvalidInputError."""
    if run.evaluation.simulator.name == "scripted":
        return ScriptedUserFactory()
    return LLMUserFactory(pool.client(run.evaluation.simulator, "evaluation.simulator", "simulator"), run.procedure)


def baseline_arms(run: RunInput, graph: Graph, pool: ClientPool) -> list[Arm]:
    """Arms of the run's baselines. Raises InvalidInputError."""
    return [_baseline_arm(run, graph, pool, index) for index in range(len(run.evaluation.baselines))]


def _baseline_arm(run: RunInput, graph: Graph, pool: ClientPool, index: int) -> Arm:
    baseline = run.evaluation.baselines[index]
    if graph.spec.tools:
        raise InvalidInputError(f"evaluation.baselines[{index}]: a baseline cannot call the procedure's tools; remove it")
    caller = pool.client(baseline.provider, f"evaluation.baselines[{index}].provider", f"baseline-{index}")
    agent = InContextAgent(graph.spec, caller) if baseline.kind == "InContext" else OrchestratorAgent(graph, caller)
    names = [f"{_KINDS[each.kind]} {each.provider.model}" for each in run.evaluation.baselines]
    suffix = f" ({names[: index + 1].count(names[index])})" if names[index] in names[:index] else ""
    fingerprint = cache_key(baseline.kind, request_fields(baseline.provider), run.procedure_digest, agent.instructions)
    return Arm(names[index] + suffix, agent, fingerprint)


async def connect_arms(
    context: StageContext, graph: Graph, stack: AsyncExitStack
) -> tuple[list[Arm], dict[str, str], ModelSwitch | None]:
    """Arms of candidate and references once their servers answer, and model name and server version for the report.

    Where they are served one after another, one server has answered, and the switch starts the others. A reference without a server
    takes part with conversations that it had with the same customers on a server of this version. `stack` closes the connections.
    Raises InfrastructureError.
    """
    run, store = context.input, context.store
    with_models = run.evaluation.simulator.name != "scripted"
    cache = ResponseCache(store, f"{responses_folder(run)}/served") if with_models else None
    max_tokens, arguments = max_reply_tokens(graph.spec), context.environment.serving_args

    servers = model_servers(run, context.environment, store.digest(artifact_path("train", run.keys.model)))
    clients = {server.name: await stack.enter_async_context(_http_client(server.url)) for server in servers}
    file = context.environment.model_switch
    switch = ModelSwitch(file, clients) if file else None
    answers = await _first_answers(servers, clients, switch)

    def fingerprint_of(digest: str | None, version: str, bench: ToolBench | None) -> str:
        return cache_key("vllm", digest, version, max_tokens, *arguments, *_tool_settings(graph, bench))

    def arm(server: ModelServer) -> Arm:
        model, version = answers[server.name]
        bench = _tool_bench(graph, server.tools)
        fingerprint = fingerprint_of(server.digest, version, bench)
        agent = ServedAgent(VLLMClient(clients[server.name], model, max_tokens), fingerprint, cache, bench)
        return Arm(server.name, agent, fingerprint)

    model, version = answers[CANDIDATE]
    stored = [
        Arm(
            each.role.lower(),
            AbsentAgent(),
            fingerprint_of(each.model_digest, version, _tool_bench(graph, each.tools)),
            stored=True,
        )
        for each in run.references
        if each.stored
    ]
    return [*map(arm, servers), *stored], {"model": model, "server_version": version}, switch


def _http_client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False, limits=httpx.Limits(max_connections=None))


async def _first_answers(
    servers: list[ModelServer], clients: Mapping[str, httpx.AsyncClient], switch: ModelSwitch | None
) -> dict[str, tuple[str, str]]:
    """Name and server version of each model. With a switch one server is asked: the image is that of all, the names are known."""
    if switch:
        _, version = await switch.serve(servers[-1].name)
        return {server.name: (server.name, version) for server in servers}
    answers = await asyncio.gather(*(wait_for_server(clients[server.name], START_SECONDS) for server in servers))
    return {server.name: answer for server, answer in zip(servers, answers, strict=True)}


def _tool_bench(graph: Graph, may_call: bool) -> ToolBench | None:
    """Mock tools for a model that may call them; `None` for others."""
    return ToolBench(graph.spec) if graph.spec.tools and may_call else None


def _tool_settings(graph: Graph, bench: ToolBench | None) -> list[object]:
    """What decides the calls and results of an agent with tools; nothing for others, whose conversations stay in the store."""
    if bench is None:
        return []
    nodes = [significant_fields(node) for node in graph.spec.nodes if node.role == "tool"]
    return ["tools", [significant_fields(tool) for tool in graph.spec.tools], nodes]


def model_servers(run: RunInput, environment: StageEnvironment, candidate_digest: str | None) -> list[ModelServer]:
    """Servers of candidate and references. Raises InvalidInputError when the environment names too few or too many."""
    urls, served = environment.reference_urls, [reference for reference in run.references if not reference.stored]
    if len(urls) != len(served):
        raise InvalidInputError(f"{REFERENCES_VARIABLE} names {len(urls)} servers for {len(served)} references; set one for each")
    references = [
        ModelServer(reference.role.lower(), url, reference.model_digest, reference.tools)
        for reference, url in zip(served, urls, strict=True)
    ]
    return [ModelServer(CANDIDATE, environment.vllm_url, candidate_digest or run.keys.model), *references]


def scenarios_by_reference(context: StageContext, scenarios: list[Scenario]) -> dict[str, list[Scenario]]:
    """Scenarios per reference, flagged where the procedure changed since it was compiled."""
    flagged = {}
    for reference in context.input.references:
        before = stored_procedure(context.store.read(f"{reference.model_path}/{PROCEDURE_FILE}"))
        diff = ProcedureDiff(before, context.input.procedure)
        flagged[reference.role.lower()] = [
            replace(scenario, affected_by_edit=diff.affects(scenario.path)) for scenario in scenarios
        ]
    return flagged
