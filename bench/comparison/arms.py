"""The arms: which model each serves, and the agent that talks to customers through it."""

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

import httpx
from bench.comparison.compiling import BASE, IDENTITY, CompiledModel

from subterra_api.job_contract.defaults import training_of
from subterra_api.v1alpha1.compilerun import BaseModelKind, Provider
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_core.pricing import TokenPrice
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import Agent, InContextAgent, ServedAgent
from subterra_jobs.evaluate.simulate.orchestrator_agent import OrchestratorAgent
from subterra_jobs.evaluate.simulate.vllm_client import TIMEOUT_SECONDS, ChatMessages, Reply, UnplayableError, VLLMClient
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore

FREE = TokenPrice(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
"""A model on own hardware: only its machine costs money."""
_DESCRIPTIONS: dict[BaseModelKind, str] = {"bundled": f"{BASE}, fine-tuned", "scratch": "tiny, from scratch"}
BaselineKind = Literal["in-context", "orchestrator"]
Connect = Callable[[str, AsyncExitStack], Awaitable[Agent]]
"""Makes an arm's agent from its server's URL; the stack closes its connections."""


@dataclass(frozen=True)
class ServedModel:
    """A model directory and how it is served. Without a `max_length` the model's own counts."""

    directory: Path
    name: str
    kind: BaseModelKind
    max_length: int | None = None


@dataclass(frozen=True)
class ArmPlan:
    """An arm before it is played."""

    name: str
    description: str
    """The model in words."""
    model: ServedModel
    connect: Connect
    compile_seconds: float | None
    """0 when nothing is compiled, `None` when unknown."""
    restarts: bool
    """True if an edit of the procedure needs another server; a prompt changes without one."""


def compiled_arm(name: str, graph: Graph, model: CompiledModel, kind: BaseModelKind) -> ArmPlan:
    """A compiled model, served and asked as an evaluation's candidate."""
    limit = max_reply_tokens(graph.spec)

    async def connect(url: str, stack: AsyncExitStack) -> Agent:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False))
        return ServedAgent(VLLMClient(http, name, limit), "")

    served = ServedModel(model.directory, name, kind, training_of(TrainingSettings(), kind).max_length)
    return ArmPlan(name, _DESCRIPTIONS[kind], served, connect, model.seconds, restarts=True)


def baseline_arm(kind: BaselineKind, graph: Graph, base: Path) -> ArmPlan:
    """The base model as an evaluation's baseline, through the client of OpenAI-compatible endpoints."""

    async def connect(url: str, stack: AsyncExitStack) -> Agent:
        caller = local_caller(url, kind, stack)
        agent = InContextAgent(graph.spec, caller) if kind == "in-context" else OrchestratorAgent(graph, caller)
        return _ForgivingAgent(agent)

    return ArmPlan(kind, BASE, ServedModel(base, BASE, "bundled"), connect, 0, restarts=False)


def local_caller(url: str, use: str, stack: AsyncExitStack) -> MeteredClient:
    """Client of the base model at ``url``, free of charge. It keeps no response beyond the stack."""
    endpoint = f"{url}/v1"
    environment = StageEnvironment(prices={BASE: FREE}, endpoints=(endpoint,))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="comparison-"))
    pool = ClientPool(ArtifactStore(Path(folder).as_uri()), IDENTITY, "evaluate", environment, "responses")
    stack.push_async_callback(pool.close)
    provider = Provider.model_validate({"name": "openai", "model": BASE, "baseURL": endpoint})
    return pool.client(provider, f"the arm {use}", use)


class _ForgivingAgent:
    """An agent whose refused requests, such as one beyond the model's length, end one conversation and not the arm."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        """See `Agent`."""
        try:
            return await self._agent.reply(chat, scenario)
        except InvalidInputError as error:
            raise UnplayableError(str(error), server_failed=False) from None
