"""Scripted customers who talk to a served agent: as many as come by chance, or always the same number."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

import httpx

from subterra_api.job_contract.defaults import evaluation_of
from subterra_api.v1alpha1.compilerun import EvaluationSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.chat.load.load_figures import LoadResult
from subterra_cli.chat.load.measured_client import MeasuredClient, MeasuredRequest
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import ServedAgent
from subterra_jobs.evaluate.simulate.simulation import agent_turn_limit, simulate
from subterra_jobs.evaluate.simulate.tool_use import ToolBench
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUser
from subterra_jobs.stage.cancellation import Cancellation

MIN_SCENARIOS, MAX_SCENARIOS = 10, 300
"""Different customers; more conversations begin with the first again."""


def customers(spec: ProcedureSpec, number: int, seed: int) -> list[Scenario]:
    """Scripted customers of a procedure, as an evaluation has them. Raises InvalidInputError without examples for each node."""
    settings = EvaluationSettings(scenarios=max(MIN_SCENARIOS, min(number, MAX_SCENARIOS)), seed=seed)
    return build_scenarios(Graph(spec), evaluation_of(settings))


def arrivals(rate: float, seconds: float, rng: random.Random) -> list[float]:
    """When customers come who know nothing of each other: `rate` a second on average, for `seconds`."""
    found, at = list[float](), rng.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += rng.expovariate(rate)
    return found


@dataclass
class LoadRun:
    """A load test of the agent at `url`; holds its requests while it goes on."""

    url: str
    model: str
    spec: ProcedureSpec
    cast: Sequence[Scenario]
    stream: bool = True
    timeout: float = 120.0
    max_tokens: int | None = None
    """Most tokens of a reply; `None` for what the longest step of the procedure needs."""
    api_key: str | None = None
    transport: httpx.AsyncBaseTransport | None = None
    """How requests travel; `None` for TCP."""
    requests: list[MeasuredRequest] = field(default_factory=list)
    begun: int = 0
    finished: int = 0

    async def open_loop(self, at: Sequence[float]) -> LoadResult:
        """A conversation at each of these times, however many are in progress by then."""
        began = time.monotonic()
        async with self._connections() as http, asyncio.TaskGroup() as group:
            for number, seconds in enumerate(at):
                await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
                group.create_task(self._conversation(http, number))
        return self._result(began)

    async def closed_loop(self, clients: int, goes_on: Callable[[], bool]) -> LoadResult:
        """So many customers at a time, each with connections of its own, one after the other while `goes_on()`."""
        began, numbers = time.monotonic(), count()

        async def client(http: httpx.AsyncClient) -> None:
            talks = True
            while talks:
                if not await self._conversation(http, next(numbers)):
                    await asyncio.sleep(0.1)  # a server that refuses would be asked without a pause
                talks = goes_on()

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client(await stack.enter_async_context(self._connections())))
        return self._result(began)

    def _connections(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.api_key}"} if self.api_key else {},
            timeout=self.timeout,
            limits=limits,
            transport=self.transport,
            trust_env=False,
        )

    async def _conversation(self, http: httpx.AsyncClient, number: int) -> bool:
        """Plays one; whether it came to its end."""
        scenario = self.cast[number % len(self.cast)]
        client = MeasuredClient(http, self.model, self.max_tokens or max_reply_tokens(self.spec), self.requests, stream=self.stream)
        agent = ServedAgent(client, "", bench=ToolBench(self.spec) if self.spec.tools else None)
        self.begun += 1
        user, limit = ScriptedUser(scenario.lines), agent_turn_limit(self.cast)
        played = await simulate(agent, user, scenario, limit, Cancellation())
        self.finished += played.error is None
        return played.error is None

    def _result(self, began: float) -> LoadResult:
        return LoadResult(tuple(self.requests), self.begun, self.finished, time.monotonic() - began)
