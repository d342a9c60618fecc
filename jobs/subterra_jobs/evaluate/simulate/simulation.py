"""Plays scenarios, many at a time and in a mixed order. A conversation that breaks off is kept, with the reason."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import httpx

from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import shuffled
from subterra_jobs.evaluate.simulate.agents import Condition, Served, Speaker
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUsers, User
from subterra_jobs.evaluate.simulate.vllm_client import TIMEOUT_SECONDS, Candidate, Reply, UnplayableError, connect
from subterra_jobs.stage.cancellation import Halt

CONCURRENCY = 8
CAP_FAULT = "had not come to an end after twice the turns of the longest path"


@dataclass(frozen=True)
class Dialogue:
    """A conversation as it went. ``chat`` has alternating turns; ``error`` says why it broke off, if it did."""

    chat: tuple[dict[str, str], ...]
    replies: tuple[Reply, ...]
    error: str | None = None
    lost: bool = False
    fault: str | None = None
    """What the simulated customer did wrong. It counts all the same, in all conditions alike."""


@dataclass(frozen=True)
class Played:
    """All dialogues, in the order of the scenarios, and who answered."""

    dialogues: tuple[Dialogue, ...]
    model: str
    server_version: str


class Cast(Protocol):
    """Who plays the customers."""

    def user(self, scenario: Scenario, condition: str) -> User:
        """The customer for one conversation; ``condition`` is the other side's fingerprint, for nothing but to tell them apart."""
        ...


class Library(Protocol):
    """Conversations of one condition that are finished already."""

    def get(self, scenario: str) -> Dialogue | None: ...

    async def keep(self, scenario: str, dialogue: Dialogue) -> None: ...


async def play_all(
    conditions: Sequence[Condition], scenarios: Sequence[Scenario], cast: Cast, *, seed: int, cap: int, slots: asyncio.Semaphore,
    halt: Halt, libraries: Mapping[str, Library] | None = None, on_done: Callable[[], None] = lambda: None,
) -> dict[str, tuple[Dialogue, ...]]:  # fmt: skip
    """Every scenario with every condition, by the conditions' names, in the order of the scenarios.

    They are played in one mixed batch, so that whatever changes meanwhile changes for all; ``slots`` bounds how many at a time,
    ``cap`` the agent's turns. Raises the first failure once every turn under way is over and kept.
    """

    async def one(pair: tuple[Condition, Scenario]) -> Dialogue:
        condition, scenario = pair
        library = (libraries or {}).get(condition.name)
        if library and (known := library.get(scenario.id)) is not None:
            return known
        dialogue = await converse(condition.speaker, cast.user(scenario, condition.fingerprint), scenario, cap, halt)
        if library:
            await library.keep(scenario.id, dialogue)
        return dialogue

    pairs = [(condition, scenario) for condition in conditions for scenario in scenarios]
    found = iter(await shuffled(pairs, one, seed=seed, slots=slots, halt=halt, on_done=on_done))
    return {each.name: _usable(each.name, list(islice(found, len(scenarios)))) for each in conditions}


def turn_cap(scenarios: Sequence[Scenario]) -> int:
    """So many turns of the agent that both sides together have twice those of the longest path, and an opener."""
    return max(len(scenario.path) for scenario in scenarios) + 1


def _usable(name: str, dialogues: Sequence[Dialogue]) -> tuple[Dialogue, ...]:
    if all(dialogue.lost for dialogue in dialogues):
        raise InfrastructureError(f"the server of {name} was lost: {dialogues[0].error}; look at the log of its vllm container")
    return tuple(dialogues)


async def play(url: str, scenarios: Sequence[Scenario], *, max_tokens: int, wait_seconds: float = 600) -> Played:
    """Every scripted scenario with one model that is served at ``url``.

    Raises InfrastructureError when no server answers, or when it is lost before anything was played.
    """
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        model, version = await connect(http, wait_seconds)
        condition = Condition("candidate", Served(Candidate(http, model, max_tokens), ""), "")
        cap, slots = turn_cap(scenarios), asyncio.Semaphore(CONCURRENCY)
        played = await play_all([condition], scenarios, ScriptedUsers(), seed=0, cap=cap, slots=slots, halt=Halt())
    return Played(played["candidate"], model, version)


async def converse(speaker: Speaker, user: User, scenario: Scenario, cap: int, halt: Halt) -> Dialogue:
    """One conversation: until the user has nothing more to say and was answered, or ``cap`` agent turns."""
    chat: list[dict[str, str]] = []
    replies: list[Reply] = []
    error: UnplayableError | None = None
    try:
        line = None if scenario.agent_first else await user.reply(chat)
        while len(replies) < cap and user.fault is None:
            if line is not None:
                chat.append({"role": "user", "content": line})
            halt.check()
            reply = await speaker.reply(chat, scenario)
            replies.append(reply)
            chat.append({"role": "assistant", "content": reply.text})
            halt.check()
            if (line := await user.reply(chat)) is None:
                break
    except UnplayableError as broken:
        error = broken
    fault = user.fault or (CAP_FAULT if error is None and line is not None else None)
    if error is None:
        return Dialogue(tuple(chat), tuple(replies), fault=fault)
    return Dialogue(tuple(chat), tuple(replies), str(error), error.lost, fault)
