"""LLM judge: two calls per conversation, five scores with quotes as evidence, blind to which agent replied."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from subterra_api.digest import sha256, short
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.text import flowchart_text, knowledge_text
from subterra_jobs.dialogue.prompt_blocks import numbered_transcript
from subterra_jobs.dialogue.tool_calls import with_details
from subterra_jobs.evaluate.judge.free_words.quotes import missing_quotes
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, UNCHALLENGED_CAP, Evidence, Judgement, Repeat
from subterra_jobs.evaluate.judge.rubric import INSTRUCTION, LEVELS, PARTS, Part
from subterra_jobs.evaluate.scenarios.scenario import Scenario, poses_challenge
from subterra_jobs.evaluate.scheduling import Schedule, run_shuffled
from subterra_jobs.evaluate.simulate.conversation import ArmSimulations, Conversation
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages
from subterra_jobs.llm.batches.call_collector import UnansweredCallError
from subterra_jobs.llm.behavior.reasons import whole_characters
from subterra_jobs.llm.behavior.thinking import request_fields
from subterra_jobs.llm.client import Message, Request
from subterra_jobs.llm.metered_client import Caller

TRIES = 3
"""Unusable responses to one call before the judgement is missing."""
ANSWER_TOKENS = 2000
REPEAT_SHARE = 0.1
"""Share of the conversations that each judge scores twice."""
_MOST_QUOTES = 5

ScoredCriteria = dict[str, tuple[int, Evidence]]
"""Score and evidence of each criterion."""


class BadAnswerError(Exception):
    """The judge's response is unusable; the message is sent to the judge."""


class LLMJudge:
    """One model with one rubric. `salt` is the evaluation's report key: hosted models drift, so responses are reused when this
    evaluation resumes, but never by another one. `parts` are the rubric's, in another order where that is what is to be tested.
    """

    def __init__(self, graph: Graph, provider: Provider, caller: Caller, salt: str, parts: Sequence[Part] = PARTS) -> None:
        self._caller, self._salt, self._parts = caller, salt, parts
        self._systems = [judge_system_prompt(part, graph.spec) for part in parts]
        self.name = provider.model or provider.name
        self.fingerprint = judge_fingerprint(provider)

    async def judge(self, scenario: Scenario, conversation: Conversation, repeat: int = 0) -> Judgement | None:
        """The five scores, or `None` without a usable response; a failed conversation gets the lowest without a call.

        `repeat` above 0 judges the same conversation again. Raises a StageError when the stage cannot go on.
        """
        challenged = poses_challenge(scenario)
        if conversation.error is not None:
            return Judgement(dict.fromkeys(CRITERIA, LEVELS[0]), challenged, (), judge=self.fingerprint)
        scored: ScoredCriteria = {}
        for part, system in zip(self._parts, self._systems, strict=True):
            answer = await self._ask(part, system, scenario, conversation, repeat)
            if answer is None:
                return None
            scored |= answer
        scores = {name: score for name, (score, _) in scored.items()}
        if not challenged:
            scores[GRACEFUL] = min(UNCHALLENGED_CAP, scores[GRACEFUL])
        evidence = {name: reason for name, (_, reason) in scored.items()}
        return Judgement(scores, challenged, (), evidence, self.fingerprint)

    async def ask_all(self, scenario: Scenario, conversation: Conversation, repeat: int = 0) -> None:
        """Asks for every part, even where an earlier one has no response: for a caller that only notes the calls."""
        if conversation.error is None:
            for part, system in zip(self._parts, self._systems, strict=True):
                with suppress(UnansweredCallError):
                    await self._ask(part, system, scenario, conversation, repeat)

    async def close(self) -> None:
        """Closes connections."""
        await self._caller.close()

    async def _ask(
        self, part: Part, system: str, scenario: Scenario, conversation: Conversation, repeat: int
    ) -> ScoredCriteria | None:
        """Retries an unusable response with the reason, up to `TRIES` calls."""
        request = judgement_request(part, system, scenario, conversation.chat)
        for attempt in range(TRIES):
            key = sha256([self.fingerprint, self._salt, repeat, attempt, system, [dict(message) for message in request.messages]])
            # The ledger's note on a call never names the agent either.
            response, _ = await self._caller.complete(key, request, {"scenario": scenario.id, "judges": part.criteria[0].name})
            try:
                return _parse_scores(part, response.text, response.cut, conversation)
            except BadAnswerError as error:
                retry = {"role": "user", "content": f"{error} Answer again, in full."}
                previous: Message = {"role": "assistant", "content": response.text or "(nothing)"}
                request = replace(request, messages=(*request.messages[:1], previous, retry))
        return None


def judge_fingerprint(provider: Provider) -> str:
    """Digest of model, rubric and sampling: scores with different fingerprints are not comparable."""
    rubric = [[part.informed, part.text(), part.schema] for part in PARTS]
    sampling = {"tokens": ANSWER_TOKENS, "tries": TRIES, "temperature": "the provider's default"}
    return short(sha256([request_fields(provider), INSTRUCTION, rubric, sampling]), 12)


@dataclass(frozen=True)
class JudgedArms:
    """`arms[name][i]` has one judgement per judge for the i-th conversation of an arm, `None` where missing."""

    arms: Mapping[str, list[tuple[Judgement | None, ...]]]
    repeats: tuple[Repeat, ...]


_Job = tuple[int, str, int, int]
"""Judge, arm, index of the conversation, and 1 for its repetition."""


async def judge_all(judges: Sequence[LLMJudge], arms: ArmSimulations, schedule: Schedule) -> JudgedArms:
    """Judgements of every conversation by every judge, in one shuffled order; a seeded tenth of them twice.

    Raises a StageError when the stage cannot go on; paid responses are kept.
    """
    jobs: list[_Job] = [
        (judge, arm, index, 0)
        for arm, simulations in arms.items()
        for index in range(len(simulations))
        for judge in range(len(judges))
    ]
    jobs += [(judge, arm, index, 1) for arm, index in draw_repeats(arms, schedule.seed) for judge in range(len(judges))]

    async def run(job: _Job) -> Judgement | None:
        judge, arm, index, repeat = job
        return await judges[judge].judge(*arms[arm][index], repeat=repeat)

    by_job = dict(zip(jobs, await run_shuffled(jobs, run, schedule), strict=True))
    judgements = {
        arm: [tuple(by_job[judge, arm, index, 0] for judge in range(len(judges))) for index in range(len(simulations))]
        for arm, simulations in arms.items()
    }
    return JudgedArms(judgements, tuple(_repeats(by_job)))


def _repeats(by_job: Mapping[_Job, Judgement | None]) -> Iterator[Repeat]:
    for (judge, arm, index, repeat), second in by_job.items():
        if repeat and second is not None and (first := by_job[judge, arm, index, 0]) is not None:
            yield Repeat(judge, first, second)


def draw_repeats(arms: ArmSimulations, seed: int) -> list[tuple[str, int]]:
    """Conversations judged twice, by arm and index: a tenth of those that did not fail."""
    finished = [
        (arm, index)
        for arm, simulations in arms.items()
        for index, (_, conversation) in enumerate(simulations)
        if conversation.error is None
    ]
    return sorted(random.Random(f"evaluate/{seed}/twice").sample(finished, round(REPEAT_SHARE * len(finished))))


def judge_system_prompt(part: Part, spec: ProcedureSpec) -> str:
    """System prompt of every call for these criteria."""
    texts = [INSTRUCTION, f"Criteria:\n\n{part.text()}"]
    if part.informed:
        texts.append(f"<procedure>\n{flowchart_text(spec)}\n</procedure>")
        texts.append(f"Facts that the agent may use:\n{knowledge_text(spec)}")
    return "\n\n".join(texts)


def judgement_request(part: Part, system: str, scenario: Scenario, chat: ChatMessages) -> Request:
    """Request for the scores of one conversation."""
    known = f"<known>\n{scenario.context}\n</known>" if part.informed and scenario.context else ""
    ask = "Judge the agent of this conversation" + (", who knew about the customer what stands in <known>." if known else ".")
    text = "\n\n".join(filter(None, [known, numbered_transcript(with_details(chat)), ask]))
    return Request(system, ({"role": "user", "content": text},), ANSWER_TOKENS, part.schema)


def _parse_scores(part: Part, text: str, cut: str | None, conversation: Conversation) -> ScoredCriteria:
    """Scores in the response. Raises BadAnswerError unless every criterion has a level and quotes from the conversation."""
    if cut is not None:
        raise BadAnswerError(f"The answer did not come to an end ({cut}). Be brief.")
    try:
        answer = json.loads(text)
        scored = {criterion.name: _parse_score(answer[criterion.name]) for criterion in part.criteria}
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswerError(f"The answer is not the JSON that was asked for ({type(error).__name__}).") from None
    for name, (_, why) in scored.items():
        if wrong := missing_quotes(why.quotes, with_details(conversation.chat)):
            raise BadAnswerError(f"The conversation does not hold this quote of {name}, word for word in one turn: {wrong[0]!r}.")
        if not why.quotes:
            raise BadAnswerError(f"{name} has no quote from the conversation.")
    return scored


def _parse_score(raw: Mapping[str, Any]) -> tuple[int, Evidence]:
    """One score with its evidence. Raises ValueError, KeyError or TypeError for anything else."""
    score, quotes = raw["score"], raw["quotes"]
    if type(score) is not int or score not in LEVELS or not isinstance(quotes, list):
        raise ValueError(score)
    return score, Evidence(tuple(str(quote) for quote in quotes[:_MOST_QUOTES]), whole_characters(str(raw["reason"])))
