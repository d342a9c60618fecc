"""Simulates conversations concurrently in shuffled order. A failed conversation is returned with the reason."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import httpx

from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule, run_shuffled
from subterra_jobs.evaluate.simulate.agents import Agent, Arm, ServedAgent
from subterra_jobs.evaluate.simulate.conversation import NOT_STORED, Conversation
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUserFactory, User
from subterra_jobs.evaluate.simulate.vllm_client import TIMEOUT_SECONDS, Reply, UnplayableError, VLLMClient, wait_for_server
from subterra_jobs.stage.cancellation import Cancellation
from subterra_jobs.stage.environment import CONCURRENCY

CAP_FAULT = "had not come to an end after twice the turns of the longest path"


class UserFactory(Protocol):
    """Makes the simulated customers."""

    def user(self, scenario: Scenario, other_party: str) -> User:
        """The customer of one conversation; `other_party` is the arm's fingerprint, which only keeps response caches apart."""
        ...


async def simulate_all(
    arms: Sequence[Arm],
    scenarios: Sequence[Scenario],
    users: UserFactory,
    schedule: Schedule,
    *,
    max_agent_turns: int,
    caches: Mapping[str, ConversationCache] | None = None,
) -> dict[str, tuple[Conversation, ...]]:
    """Conversations of every arm, by name, in the order of the scenarios.

    They run in one shuffled batch, so that drift affects all arms alike. Raises the first failure once every running turn is
    finished and stored.
    """

    async def simulate_pair(pair: tuple[Arm, Scenario]) -> Conversation:
        arm, scenario = pair
        cache = (caches or {}).get(arm.name)
        if cache and (cached := cache.get(scenario.id)) is not None:
            return cached
        if arm.stored:
            return Conversation((), (), NOT_STORED)  # before the customer's first turn, which may cost something
        user = users.user(scenario, arm.fingerprint)
        conversation = await simulate(arm.agent, user, scenario, max_agent_turns, schedule.cancellation)
        if cache:
            await cache.add(scenario.id, conversation)
        return conversation

    pairs = [(arm, scenario) for arm in arms for scenario in scenarios]
    conversations = iter(await run_shuffled(pairs, simulate_pair, schedule))
    return {arm.name: _require_served(arm.name, list(islice(conversations, len(scenarios)))) for arm in arms}


def _require_served(name: str, conversations: Sequence[Conversation]) -> tuple[Conversation, ...]:
    if all(conversation.lost for conversation in conversations):
        error = conversations[0].error
        raise InfrastructureError(f"the server of {name} failed: {error}; check the log of its vllm container")
    return tuple(conversations)


def agent_turn_limit(scenarios: Sequence[Scenario]) -> int:
    """Limit of agent turns: both sides together may take twice the turns of the longest path, plus an opener."""
    return max(len(scenario.path) for scenario in scenarios) + 1


async def simulate(agent: Agent, user: User, scenario: Scenario, max_agent_turns: int, cancellation: Cancellation) -> Conversation:
    """One conversation, until the customer has nothing more to say and got a reply, or `max_agent_turns`."""
    chat: list[dict[str, Any]] = []
    replies: list[Reply] = []
    error: UnplayableError | None = None
    try:
        line = None if scenario.agent_first else await user.reply(chat)
        while len(replies) < max_agent_turns and user.fault is None:
            if line is not None:
                chat.append({"role": "user", "content": line})
            cancellation.raise_if_cancelled()
            reply = await agent.reply(chat, scenario)
            replies.append(reply)
            calls = {"messages": list(reply.messages)} if reply.messages else {}
            chat.append({"role": "assistant", "content": reply.text, **calls})
            cancellation.raise_if_cancelled()
            if (line := await user.reply(chat)) is None:
                break
    except UnplayableError as unplayable:
        error = unplayable
    fault = user.fault or (CAP_FAULT if error is None and line is not None else None)
    if error is None:
        return Conversation(tuple(chat), tuple(replies), fault=fault)
    return Conversation(tuple(chat), tuple(replies), str(error), error.server_failed, fault)


@dataclass(frozen=True)
class ScriptedRun:
    """Conversations of scripted customers, in the order of the scenarios, and the model that replied."""

    conversations: tuple[Conversation, ...]
    model: str
    server_version: str


async def simulate_scripted(url: str, scenarios: Sequence[Scenario], *, max_tokens: int, wait_seconds: float = 600) -> ScriptedRun:
    """Conversations of scripted customers with the model served at `url`.

    Raises InfrastructureError when no server answers, or when every conversation failed because of it.
    """
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        model, version = await wait_for_server(http, wait_seconds)
        arm = Arm("candidate", ServedAgent(VLLMClient(http, model, max_tokens), ""), "")
        schedule = Schedule(0, asyncio.Semaphore(CONCURRENCY), Cancellation())
        limit = agent_turn_limit(scenarios)
        conversations = await simulate_all([arm], scenarios, ScriptedUserFactory(), schedule, max_agent_turns=limit)
    return ScriptedRun(conversations[arm.name], model, version)
