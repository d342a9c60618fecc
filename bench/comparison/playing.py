"""Plays one arm: starts its server, lets all customers talk to it, and stops the server."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.comparison.arms import ArmPlan, ServedModel
from bench.comparison.customers import Blocks
from bench.comparison.progress import Progress

from subterra_jobs.errors import StageError
from subterra_jobs.evaluate.scheduling import Schedule
from subterra_jobs.evaluate.simulate.agents import Agent, Arm
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.simulation import agent_turn_limit, simulate_all
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUserFactory
from subterra_jobs.stage.cancellation import Cancellation
from subterra_testkit.servers.vllm_server import ServerStartError, vllm_server

Serve = Callable[[ServedModel, Path], AbstractContextManager[str]]
"""Serves a model, with log and cache in a folder, and gives its URL."""
LOG = "log"


class ArmFailedError(Exception):
    """An arm that could not be measured; the message names it and the server's log."""


@dataclass(frozen=True)
class Played:
    """An arm's conversations by block, in the order of the customers, and the times that they took."""

    conversations: Mapping[str, tuple[Conversation, ...]]
    start_seconds: float
    busy_seconds: float
    """From the first request to the last reply, with several conversations at a time."""


@dataclass(frozen=True)
class PlaySettings:
    """What all arms share: who serves, how many conversations run at a time, in which order, and where logs go."""

    serve: Serve
    concurrency: int
    seed: int
    folder: Path
    progress: Progress


def serve_with_vllm(model: ServedModel, folder: Path) -> AbstractContextManager[str]:
    """A vLLM server as the operator starts it."""
    return vllm_server(model.directory.resolve(), model.name, folder.resolve(), model.max_length, kind=model.kind)


def play_arm(plan: ArmPlan, customers: Blocks, settings: PlaySettings) -> Played:
    """All conversations of an arm. Raises ArmFailedError."""
    folder = settings.folder / plan.name
    settings.progress.say(f"{plan.name}: starting the server of {plan.model.directory}")
    began = time.monotonic()
    try:
        with settings.serve(plan.model, folder) as url:
            start_seconds = time.monotonic() - began
            settings.progress.say(f"{plan.name}: the server is ready after {start_seconds:.0f} s")
            conversations, busy_seconds = asyncio.run(_play(plan, url, customers, settings))
    except (StageError, ServerStartError) as error:
        raise ArmFailedError(f"{plan.name} failed (its server's log: {folder / LOG}): {error}") from error
    _require_server(plan, conversations, folder / LOG)
    return Played(conversations, start_seconds, busy_seconds)


async def _play(
    plan: ArmPlan, url: str, customers: Blocks, settings: PlaySettings
) -> tuple[dict[str, tuple[Conversation, ...]], float]:
    """Conversations by block, and the seconds that all of them took."""
    async with AsyncExitStack() as stack:
        agent = await plan.connect(url, stack)
        began = time.monotonic()
        found = {block: await _play_block(plan.name, block, agent, customers, settings) for block in customers}
        return found, time.monotonic() - began


async def _play_block(name: str, block: str, agent: Agent, customers: Blocks, settings: PlaySettings) -> tuple[Conversation, ...]:
    scenarios, done, began = customers[block], 0, time.monotonic()

    def on_done() -> None:
        nonlocal done
        done += 1
        line = f"{name}, {block}: {done} of {len(scenarios)} conversations, {(time.monotonic() - began) / done:.1f} s each"
        (settings.progress.say if done == len(scenarios) else settings.progress.step)(line)

    schedule = Schedule(settings.seed, asyncio.Semaphore(settings.concurrency), Cancellation(), on_done)
    arm, limit = Arm(name, agent, name), agent_turn_limit(scenarios)
    return (await simulate_all([arm], scenarios, ScriptedUserFactory(), schedule, max_agent_turns=limit))[name]


def _require_server(plan: ArmPlan, conversations: Mapping[str, tuple[Conversation, ...]], log: Path) -> None:
    """Raises ArmFailedError when the server failed in a conversation: what was not answered says nothing about the agent."""
    played = [conversation for block in conversations.values() for conversation in block]
    lost = [conversation for conversation in played if conversation.lost]
    if lost:
        raise ArmFailedError(
            f"{plan.name} failed (its server's log: {log}): no answer in {len(lost)} of {len(played)} conversations "
            f"({lost[0].error})"
        )
