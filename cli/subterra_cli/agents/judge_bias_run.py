"""Asks the judges of an agent about conversations as they were and changed in ways that should not matter, and counts the moves."""

import asyncio
import json
import os
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from subterra_api.job_contract.defaults import evaluation_of
from subterra_api.job_contract.environment import KEY_VARIABLES
from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.judging import BiasKind, JudgeBias
from subterra_cli.agents.evaluation_transcripts import JudgedConversation
from subterra_cli.dataset.sampling_session import without_words_of_a_run
from subterra_cli.errors import CommandError
from subterra_cli.files.manifests import CompileRequest
from subterra_cli.output.written_file import write_file
from subterra_core.judge_certification.bias_pairs import (
    OTHER_MODEL,
    Turns,
    count_moves,
    direction,
    formatted,
    naming,
    padded,
    sign_test,
)
from subterra_core.pricing import TokenPrice, format_usd
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import context_lines
from subterra_jobs.errors import BudgetExceededError, InvalidInputError, StageError
from subterra_jobs.evaluate.judge.llm_judge import LLMJudge
from subterra_jobs.evaluate.judge.rubric import PARTS, Part
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule, run_shuffled
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.llm.account import Account, make_client, resolve_account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import Cancellation
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore

CONCURRENCY = 8
REVERSED = tuple(replace(part, criteria=part.criteria[::-1]) for part in PARTS)
"""The rubric with the criteria of each call in reverse order."""
CALLS = 7 * len(PARTS)
"""About one conversation, to one judge, if every response is usable."""
_BIASES = TypeAdapter(tuple[JudgeBias, ...])


@dataclass(frozen=True)
class _Variant:
    """A conversation in one form; `repeat` above 0 asks once more about what was asked already."""

    parts: Sequence[Part] = PARTS
    repeat: int = 0
    name: str | None = None
    change: str | None = None

    def turns(self, turns: Turns) -> Turns:
        """The turns in this form."""
        changed = {"padded": padded, "formatted": formatted}[self.change](turns) if self.change else turns
        return naming(changed, self.name) if self.name else changed


def _variants(model: str) -> dict[BiasKind, tuple[_Variant, _Variant]]:
    """What is compared with what, for a judge of this name."""
    plain, other = _Variant(), _Variant(name=OTHER_MODEL)
    return {
        "repetition": (plain, _Variant(repeat=1)),
        "order": (plain, _Variant(parts=REVERSED)),
        "verbosity": (plain, _Variant(change="padded")),
        "formatting": (plain, _Variant(change="formatted")),
        "otherName": (plain, other),
        "ownName": (other, _Variant(name=model)),
    }


@dataclass(frozen=True)
class BiasRun:
    """The judges of an agent with their accounts, and the conversations."""

    graph: Graph
    judges: Sequence[tuple[Provider, Account]]
    conversations: Sequence[JudgedConversation]
    max_usd: Decimal

    async def measure(self) -> list[JudgeBias]:
        """The moves of every judge by kind. Raises CommandError where a call cannot be made."""
        store, run = ArtifactStore(f"memory://bias-{uuid.uuid4().hex}"), RunIdentity(name="bias", namespace="default", uid="bias")
        guard = BudgetGuard(Ledger(store, run), "evaluate", Budget(max_usd=format_usd(self.max_usd)))
        queue = AdmissionQueue(guard, RateLimiter(CONCURRENCY))
        found = list[JudgeBias]()
        for index, (provider, account) in enumerate(self.judges):
            client = MeteredClient(account, make_client(account), queue, ResponseCache(store, f"answers/{index}"))
            try:
                found += await self._of_judge(provider, client)
            except BudgetExceededError:
                raise CommandError(
                    f"stopped: the next call could exceed --max-usd {self.max_usd.normalize():f}, as each call is counted at the "
                    "most that it can cost; raise --max-usd, or ask about fewer conversations (-n)"
                ) from None
            except StageError as error:
                raise CommandError(f"stopped: {without_words_of_a_run(str(error), provider)}") from None
            finally:
                await client.close()
        return found

    async def _of_judge(self, provider: Provider, client: MeteredClient) -> list[JudgeBias]:
        pairs = _variants(provider.model or provider.name)
        forms = [*dict.fromkeys(form for both in pairs.values() for form in both)]
        jobs = [(form, index) for form in forms for index in range(len(self.conversations))]

        async def score(job: tuple[_Variant, int]) -> float | None:
            form, index = job
            judge = LLMJudge(self.graph, provider, client, "bias", form.parts)
            judgement = await judge.judge(*_played(self.graph, self.conversations[index], form), repeat=form.repeat)
            return None if judgement is None else float(sum(judgement.scores.values()))

        schedule = Schedule(1, asyncio.Semaphore(CONCURRENCY), Cancellation())
        scores = dict(zip(jobs, await run_shuffled(jobs, score, schedule), strict=True))
        fingerprint = LLMJudge(self.graph, provider, client, "bias").fingerprint
        every = range(len(self.conversations))
        return [
            count_moves(fingerprint, kind, [(scores[before, index], scores[after, index]) for index in every])
            for kind, (before, after) in pairs.items()
        ]


def _played(graph: Graph, conversation: JudgedConversation, form: _Variant) -> tuple[Scenario, Conversation]:
    """The conversation in this form, as judges get it."""
    known = context_lines(graph.spec, conversation.values)
    scenario = Scenario(conversation.scenario, False, (), conversation.values, None, (), True, context=known)
    role = {"customer": "user", "agent": "assistant"}
    chat = tuple({"role": role[speaker], "content": text} for speaker, text in form.turns(conversation.turns))
    return scenario, Conversation(chat, ())


def agent_judges(request: CompileRequest, prices: Mapping[str, TokenPrice]) -> list[tuple[Provider, Account]]:
    """The judges of an agent that are models, with the accounts that pay for them. Raises CommandError."""
    settings = evaluation_of(request.inputs.evaluation)
    named = [("evaluation.judge", settings.judge), ("evaluation.secondJudge", settings.second_judge)]
    models = [(field, provider) for field, provider in named if provider is not None and provider.name != "scripted"]
    if not models:
        raise CommandError(f"{request.name}: its judge is scripted: rules have no preferences")
    endpoints = tuple(provider.base_url for _, provider in models if provider.base_url)
    try:
        stage = StageEnvironment.parse(os.environ)
        paying = replace(stage, prices={**stage.prices, **prices}, endpoints=endpoints)
        return [(provider, resolve_account(provider, field, paying)) for field, provider in models]
    except InvalidInputError as error:
        keys = " and ".join(sorted({KEY_VARIABLES[provider.name] for _, provider in models}))
        raise CommandError(str(error).replace("name a Secret in execution.apiKeySecrets", f"set {keys}")) from None


def draw_conversations(conversations: Sequence[JudgedConversation], count: int, seed: int) -> list[JudgedConversation]:
    """`count` conversations, or all if there are no more."""
    return random.Random(f"judge-bias/{seed}").sample([*conversations], min(count, len(conversations)))


def bias_lines(biases: Sequence[JudgeBias]) -> Iterator[str]:
    """The moves as a table, a row for each judge and kind."""
    yield f"{'JUDGE':14}{'KIND':12}{'HIGHER':>8}{'LOWER':>8}{'OF':>6}{'P':>8}"
    for bias in biases:
        verdict = direction(bias)
        moves = f"{bias.higher:>8}{bias.lower:>8}{bias.of:>6}{sign_test(bias):>8.3f}"
        yield f"{bias.judge:14}{bias.kind:12}{moves}" + (f"  scores are {verdict} without a reason" if verdict else "")


def write_biases(file: Path, biases: Sequence[JudgeBias]) -> None:
    """Writes the moves for `subterra judge calibrate --bias`. Raises CommandError."""
    write_file(file, json.dumps(_BIASES.dump_python(tuple(biases), mode="json"), indent=1) + "\n")


def read_biases(file: Path, judges: Sequence[str]) -> tuple[JudgeBias, ...]:
    """The moves in a file, which must be of these judges. Raises CommandError."""
    try:
        found = _BIASES.validate_json(file.read_text())
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise CommandError(f"{file} is not what `subterra judge bias` writes; run it again") from None
    if strangers := sorted({bias.judge for bias in found} - set(judges)):
        raise CommandError(
            f"{file}: {', '.join(strangers)} is not a judge of this sheet; run `subterra judge bias` with its judges"
        )
    return found
