"""Plays scenarios with the candidate, a few at a time. A conversation that breaks off is kept, with the reason."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from subterra_jobs.common.errors import InfrastructureError
from subterra_jobs.evaluate.client import TIMEOUT_SECONDS, Candidate, Reply, UnplayableError, connect
from subterra_jobs.evaluate.scenarios import Scenario
from subterra_jobs.evaluate.simulator import ScriptedUser, User

CONCURRENCY = 8


@dataclass(frozen=True)
class Dialogue:
    """A conversation as it went. ``chat`` has alternating turns; ``error`` says why it broke off, if it did."""

    chat: tuple[dict[str, str], ...]
    replies: tuple[Reply, ...]
    error: str | None = None
    lost: bool = False


@dataclass(frozen=True)
class Played:
    """All dialogues, in the order of the scenarios, and who answered."""

    dialogues: tuple[Dialogue, ...]
    model: str
    server_version: str


async def play(
    url: str, scenarios: Sequence[Scenario], *, max_tokens: int, wait_seconds: float = 600,
    on_done: Callable[[int], None] = lambda _: None, concurrency: int = CONCURRENCY,
) -> Played:  # fmt: skip
    """Every scenario played. Raises InfrastructureError when no server answers, or when it is lost before anything was played."""
    cap = 2 * max(len(scenario.lines) + 1 for scenario in scenarios)
    gate, done = asyncio.Semaphore(concurrency), 0
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        model, version = await connect(http, wait_seconds)
        candidate = Candidate(http, model, max_tokens)

        async def one(scenario: Scenario) -> Dialogue:
            nonlocal done
            async with gate:
                user, first = ScriptedUser(scenario.lines), scenario.agent_first
                dialogue = await converse(candidate, user, agent_first=first, cap=cap, context=scenario.context)
            done += 1
            on_done(done)
            return dialogue

        dialogues = tuple(await asyncio.gather(*(one(scenario) for scenario in scenarios)))
    if all(dialogue.lost for dialogue in dialogues):
        raise InfrastructureError(f"the server at {url} was lost: {dialogues[0].error}; look at the log of the vllm container")
    return Played(dialogues, model, version)


async def converse(candidate: Candidate, user: User, *, agent_first: bool, cap: int, context: str = "") -> Dialogue:
    """One conversation: until the user has nothing more to say and was answered, or ``cap`` agent turns."""
    chat: list[dict[str, str]] = []
    replies: list[Reply] = []
    try:
        line = None if agent_first else await user.reply(chat)
        while len(replies) < cap:
            if line is not None:
                chat.append({"role": "user", "content": line})
            reply = await candidate.reply(chat, context)
            replies.append(reply)
            chat.append({"role": "assistant", "content": reply.text})
            if (line := await user.reply(chat)) is None:
                break
    except UnplayableError as error:
        return Dialogue(tuple(chat), tuple(replies), str(error), error.lost)
    return Dialogue(tuple(chat), tuple(replies))
