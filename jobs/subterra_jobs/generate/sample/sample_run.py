"""Writes the first conversations of a plan in this process: the plan, prompts, checks and caps are those of the generate stage."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from subterra_api.job_contract.messages import Budget, Generation, RunIdentity
from subterra_core.pricing import TokenPrice, format_usd
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import questions_by_name
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.errors import InvalidInputError, StageError
from subterra_jobs.generate.check.near_duplicates import drop_near_duplicates
from subterra_jobs.generate.cost_estimate import cost_of_writing
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.sample.observed_teacher import ObservedTeacher, RefusedTurn
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.generate.write.writer import Teacher, Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.cost_estimate import CostEstimate
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import StoppedError, cancelled_by_signals
from subterra_jobs.store.artifact_store import ArtifactStore

CONCURRENCY = 8
"""Conversations in progress, each with one call at a time."""
PATIENCE_SECONDS = 60.0
"""Time for retries of one call; less than in a stage, as somebody is waiting."""
_RUN = "sample"


@dataclass(frozen=True)
class SampleProgress:
    """How far the writing is."""

    conversations: int
    """Finished ones."""
    replies: int
    usd: Decimal


@dataclass(frozen=True)
class SampledConversation:
    """A finished conversation and what the checks refused while it was written."""

    conversation: Conversation
    refused: tuple[RefusedTurn, ...]


@dataclass
class Sample:
    """What was written and what it cost."""

    conversations: tuple[SampledConversation, ...] = ()
    """In the order of the plan."""
    calls: int = 0
    tokens: int = 0
    usd: Decimal = Decimal(0)
    failure: StageError | None = None
    """Why there are no more."""
    interrupted: bool = False


OnProgress = Callable[[SampleProgress], None]


def planned_sample(graph: Graph, generation: Generation, count: int) -> list[ConversationSpec]:
    """The first conversations of the plan, as the generate stage writes them.

    Raises InvalidInputError for a procedure that cannot be planned, or that lacks examples for the scripted teacher.
    """
    scripted = generation.teacher.name == "scripted"
    if scripted and (missing := missing_examples(graph)):
        raise InvalidInputError("\n".join(missing))
    plan = plan_conversations(graph.spec, generation)[:count]
    if not scripted:
        return plan
    from subterra_jobs.generate.write.scripted_teacher import with_typed_openers

    return with_typed_openers(graph, plan)


def missing_examples(graph: Graph) -> list[str]:
    """A message for each node or branch that has no words for the scripted teacher."""
    problems = []
    for node in graph.spec.nodes:
        branches: list[str | None] = [*(edge.to for edge in node.next)] or [None]
        branches += [edge.to for edge in graph.anywhere.get(node.id, ())]
        for taken in branches:
            try:
                example_templates(graph, node.id, taken)
            except InvalidInputError as error:
                problems.append(str(error))
    problems += [
        f"question {name} has no examples, which the scripted teacher needs; add some, or use another teacher"
        for name, question in questions_by_name(graph.spec).items()
        if not question.examples
    ]
    return list(dict.fromkeys(problems))


def forecast(graph: Graph, plan: Sequence[ConversationSpec], account: Account | None, generation: Generation) -> CostEstimate:
    """The least and the most that writing the plan is expected to cost; nothing without an account."""
    if account is None:
        return CostEstimate()
    prices: Mapping[str, TokenPrice] = {account.model: account.price}
    return cost_of_writing(graph, plan, generation.teacher, prices)


@dataclass
class SampleRun:
    """One sample, in memory: nothing is left in any store."""

    graph: Graph
    plan: Sequence[ConversationSpec]
    generation: Generation
    account: Account | None
    """`None` for the scripted teacher."""
    max_usd: Decimal
    on_progress: OnProgress
    on_stop: Callable[[], None] = lambda: None
    """Called when a signal ends the writing."""
    _admission: AdmissionQueue | None = None
    _finished: dict[str, Conversation] = field(default_factory=dict)
    _replies: int = 0

    async def write(self) -> Sample:
        """Writes the plan until it is finished, a signal arrives, or a StageError; what is finished and paid is returned."""
        teacher = ObservedTeacher(self.graph, self._teacher(), self._replied)
        sample = Sample()
        try:
            await self._write_all(Writer(self.graph, teacher))
        except StageError as error:
            sample.failure = error
        except StoppedError:
            sample.interrupted = True
        finally:
            await teacher.close()
        written = [self._finished[spec.id] for spec in self.plan if spec.id in self._finished]
        checked = written if self.account is None else _in_plan_order(drop_near_duplicates(written), self.plan)
        sample.conversations = tuple(SampledConversation(each, teacher.refused(each.spec.id)) for each in checked)
        if self._admission is not None:
            stats = await self._admission.stats()
            sample.calls, sample.tokens, sample.usd = stats.calls, stats.tokens, stats.usd
        return sample

    def _teacher(self) -> Teacher:
        if self.account is None:
            from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher

            return ScriptedTeacher(self.graph)
        from subterra_jobs.generate.write.llm_teacher import LLMTeacher
        from subterra_jobs.llm.account import make_client
        from subterra_jobs.llm.metered_client import MeteredClient, RetryPolicy
        from subterra_jobs.llm.response_cache import ResponseCache

        store = ArtifactStore(f"memory://{_RUN}-{uuid.uuid4().hex}")
        run = RunIdentity(name=_RUN, namespace="default", uid=_RUN)
        guard = BudgetGuard(Ledger(store, run), "generate", Budget(max_usd=format_usd(self.max_usd)))
        self._admission = AdmissionQueue(guard, RateLimiter(CONCURRENCY))
        responses = ResponseCache(store, turns_path(self.generation.teacher))
        client, retries = make_client(self.account), RetryPolicy(PATIENCE_SECONDS)
        return LLMTeacher(self.graph, MeteredClient(self.account, client, self._admission, responses, retries))

    async def _write_all(self, writer: Writer) -> None:
        """Raises StoppedError after a signal, or the first StageError, once the turns in progress are finished."""
        # One at a time for the scripted teacher, which keeps the script of a single conversation.
        places = asyncio.Semaphore(1 if self.account is None else CONCURRENCY)
        with cancelled_by_signals() as cancellation:

            async def finish(spec: ConversationSpec) -> None:
                async with places:
                    try:
                        finished = await writer.finish(Conversation(spec), cancellation.raise_if_cancelled)
                    except StageError as error:
                        cancellation.cancel(error)
                        raise
                    self._finished[spec.id] = finished
                    self._report()

            async def announce() -> None:
                await cancellation.wait()
                if isinstance(cancellation.reason, StoppedError):
                    self.on_stop()

            announcement = asyncio.create_task(announce())
            try:
                results = await asyncio.gather(*map(finish, self.plan), return_exceptions=True)
            finally:
                announcement.cancel()
            raise_first(results)

    def _replied(self) -> None:
        self._replies += 1
        self._report()

    def _report(self) -> None:
        usd = Decimal(0) if self._admission is None else self._admission.budget.spent
        self.on_progress(SampleProgress(len(self._finished), self._replies, usd))


def raise_first(results: Sequence[BaseException | None]) -> None:
    """Raises the first unexpected exception, else the first one."""
    errors = [error for error in results if error is not None]
    for error in sorted(errors, key=lambda each: isinstance(each, StageError | StoppedError)):
        raise error


def _in_plan_order(conversations: Sequence[Conversation], plan: Sequence[ConversationSpec]) -> list[Conversation]:
    by_id = {each.spec.id: each for each in conversations}
    return [by_id[spec.id] for spec in plan if spec.id in by_id]
