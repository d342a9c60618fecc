"""A judge that is a model: two calls per conversation, five scores with quotes as evidence, blind to who the agent was."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from subterra_api.digest import meaning, sha256, short
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.text import flowchart, knowledge
from subterra_jobs.dialogue.prompt_blocks import transcript
from subterra_jobs.evaluate.judge.quotes import unfounded
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, UNCHALLENGED_CAP, Evidence, Judgement, Repeat
from subterra_jobs.evaluate.judge.rubric import INSTRUCTION, LEVELS, PARTS, Part
from subterra_jobs.evaluate.scenarios.scenario import Scenario, poses_challenge
from subterra_jobs.evaluate.scheduling import shuffled
from subterra_jobs.evaluate.simulate.simulation import Dialogue
from subterra_jobs.llm.client import Message, Request
from subterra_jobs.llm.metered_client import Caller
from subterra_jobs.stage.cancellation import Halt

TRIES = 3
"""Answers of one call that may be unusable before the judgement is missing."""
ANSWER_TOKENS = 2000
TWICE = 0.1
"""Share of the conversations that each judge judges twice."""
_MOST_QUOTES = 5

Chat = Sequence[Mapping[str, str]]
Played = tuple[Scenario, Dialogue]
Arms = Mapping[str, Sequence[Played]]
Scored = dict[str, tuple[int, Evidence]]
"""Score and evidence of each criterion."""


class BadAnswerError(Exception):
    """What the judge said cannot be used; the message tells the judge why."""


class ModelJudge:
    """One model with one rubric. ``salt`` belongs to the evaluation (its report key): hosted models drift, so answers are
    reused when this evaluation goes on after a kill, and never by another one.
    """

    def __init__(self, graph: Graph, provider: Provider, caller: Caller, salt: str) -> None:
        self._caller, self._salt = caller, salt
        self._systems = [system_of(part, graph.spec) for part in PARTS]
        self.name = provider.model or provider.name
        self.fingerprint = fingerprint(provider)

    async def judge(self, scenario: Scenario, dialogue: Dialogue, play: int = 0) -> Judgement | None:
        """The five scores, lowest without a call for a conversation that broke off; none when no usable answer came.

        ``play`` above 0 judges the same conversation anew. Raises a StageError when there is no going on.
        """
        challenged = poses_challenge(scenario)
        if dialogue.error is not None:
            return Judgement(dict.fromkeys(CRITERIA, LEVELS[0]), challenged, (), judge=self.fingerprint)
        found: Scored = {}
        for part, system in zip(PARTS, self._systems, strict=True):
            answer = await self._ask(part, system, scenario, dialogue, play)
            if answer is None:
                return None
            found |= answer
        scores = {name: score for name, (score, _) in found.items()}
        if not challenged:
            scores[GRACEFUL] = min(UNCHALLENGED_CAP, scores[GRACEFUL])
        return Judgement(scores, challenged, (), {name: why for name, (_, why) in found.items()}, self.fingerprint)

    async def close(self) -> None:
        """Gives back connections."""
        await self._caller.close()

    async def _ask(self, part: Part, system: str, scenario: Scenario, dialogue: Dialogue, play: int) -> Scored | None:
        """Asks again with what was wrong, a few times."""
        request = judging(part, system, scenario, dialogue.chat)
        for attempt in range(TRIES):
            key = sha256([self.fingerprint, self._salt, play, attempt, system, [dict(message) for message in request.messages]])
            # What is said of a call for the ledger never names the agent either.
            kept, _ = await self._caller.ask(key, request, {"scenario": scenario.id, "judges": part.criteria[0].name})
            try:
                return _checked(part, kept.text, kept.cut, dialogue)
            except BadAnswerError as error:
                again = {"role": "user", "content": f"{error} Answer again, in full."}
                said: Message = {"role": "assistant", "content": kept.text or "(nothing)"}
                request = replace(request, messages=(*request.messages[:1], said, again))
        return None


def fingerprint(provider: Provider) -> str:
    """Names model, rubric and sampling: scores with unlike fingerprints are not comparable."""
    asked = [[part.informed, part.text(), part.schema] for part in PARTS]
    sampling = {"tokens": ANSWER_TOKENS, "tries": TRIES, "temperature": "the provider's default"}
    return short(sha256([meaning(provider), INSTRUCTION, asked, sampling]), 12)


@dataclass(frozen=True)
class Judged:
    """``arms[name][i]`` has one judgement per judge for the i-th conversation of an arm, none where it is missing."""

    arms: Mapping[str, list[tuple[Judgement | None, ...]]]
    repeats: tuple[Repeat, ...]


async def judge_all(
    judges: Sequence[ModelJudge], arms: Arms, *, seed: int, slots: asyncio.Semaphore, halt: Halt,
    on_done: Callable[[], None] = lambda: None,
) -> Judged:  # fmt: skip
    """Every conversation of every arm by every judge, in one mixed order; a seeded tenth of them twice.

    ``on_done`` is called after each judgement. Raises a StageError when there is no going on; what was paid until then is kept.
    """
    jobs = [(judge, arm, at, 0) for arm, played in arms.items() for at in range(len(played)) for judge in range(len(judges))]
    jobs += [(judge, arm, at, 1) for arm, at in drawn_twice(arms, seed) for judge in range(len(judges))]

    async def do(job: tuple[int, str, int, int]) -> Judgement | None:
        judge, arm, at, play = job
        return await judges[judge].judge(*arms[arm][at], play=play)

    found = await shuffled(jobs, do, seed=seed, slots=slots, halt=halt, on_done=on_done)
    by_job = dict(zip(jobs, found, strict=True))
    pairs = [(job[0], by_job[*job[:3], 0], second) for job, second in by_job.items() if job[3]]
    return Judged(
        {
            arm: [tuple(by_job[judge, arm, at, 0] for judge in range(len(judges))) for at in range(len(played))]
            for arm, played in arms.items()
        },
        tuple(Repeat(judge, first, second) for judge, first, second in pairs if first is not None and second is not None),
    )  # fmt: skip


def drawn_twice(arms: Arms, seed: int) -> list[tuple[str, int]]:
    """The conversations, by arm and place, that are judged twice: a tenth of those that came to an end."""
    whole = [(arm, at) for arm, played in arms.items() for at, (_, dialogue) in enumerate(played) if dialogue.error is None]
    return sorted(random.Random(f"evaluate/{seed}/twice").sample(whole, round(TWICE * len(whole))))


def system_of(part: Part, spec: ProcedureSpec) -> str:
    """What is the same in every call for these criteria."""
    texts = [INSTRUCTION, f"Criteria:\n\n{part.text()}"]
    if part.informed:
        texts.append(f"<procedure>\n{flowchart(spec)}\n</procedure>")
        texts.append(f"Facts that the agent may use:\n{knowledge(spec)}")
    return "\n\n".join(texts)


def judging(part: Part, system: str, scenario: Scenario, chat: Chat) -> Request:
    """Asks for the scores of one conversation."""
    known = f"<known>\n{scenario.context}\n</known>" if part.informed and scenario.context else ""
    ask = "Judge the agent of this conversation" + (", who knew about the customer what stands in <known>." if known else ".")
    text = "\n\n".join(filter(None, [known, transcript(chat), ask]))
    return Request(system, ({"role": "user", "content": text},), ANSWER_TOKENS, part.schema)


def _checked(part: Part, text: str, cut: str | None, dialogue: Dialogue) -> Scored:
    """The answer, if every criterion has a level and quotes from the conversation. Raises BadAnswerError."""
    if cut is not None:
        raise BadAnswerError(f"The answer did not come to an end ({cut}). Be brief.")
    try:
        answer = json.loads(text)
        found = {criterion.name: _scored(answer[criterion.name]) for criterion in part.criteria}
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswerError(f"The answer is not the JSON that was asked for ({type(error).__name__}).") from None
    for name, (_, why) in found.items():
        if wrong := unfounded(why.quotes, dialogue.chat):
            raise BadAnswerError(f"The conversation does not hold this quote of {name}, word for word in one turn: {wrong[0]!r}.")
        if not why.quotes:
            raise BadAnswerError(f"{name} has no quote from the conversation.")
    return found


def _scored(given: Mapping[str, Any]) -> tuple[int, Evidence]:
    """Raises ValueError, KeyError or TypeError for what is no score with its evidence."""
    score, quotes = given["score"], given["quotes"]
    if type(score) is not int or score not in LEVELS or not isinstance(quotes, list):
        raise ValueError(score)
    return score, Evidence(tuple(str(quote) for quote in quotes[:_MOST_QUOTES]), str(given["reason"]))
