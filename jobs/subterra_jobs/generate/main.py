"""The generate stage: plans conversations, writes them on Ray, saves the dataset.

Run as ``python -m subterra_jobs.generate --input FILE``.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra_api.job_contract.messages import RunInput
from subterra_core.pricing import format_usd
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, Encoder, SentenceEncoder
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.agent_steps import AgentAudit, audit_agent, require_followed
from subterra_jobs.generate.check.branch_audit import BranchAudit, audit_branches, require_decidable, require_usable
from subterra_jobs.generate.check.near_duplicates import drop_near_duplicates
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.ray_pool import PoolShape, RayPool
from subterra_jobs.generate.workers.worker import TEACHER_FIELD
from subterra_jobs.generate.write.scripted_teacher import with_typed_openers
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.account import resolve_account
from subterra_jobs.llm.admission import UsageStats
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.stage.cpu_limit import available_cpus
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.model_directory import VOLUME_SCHEME, model_on_volume, require_trainable
from subterra_jobs.stage.runner import StageContext, StageOutcome

log = logging.getLogger("subterra")

MAX_WORKERS = 16
"""Default number of worker processes for scripted teachers is one per CPU, up to this."""
SCRIPTED_BATCH = 200
MAX_LLM_CALLS = 512
"""Maximum LLM calls in flight in each worker: enough to use 4,000 calls a minute at 7 s each. The rate limiter starts with few."""
LLM_BATCH = 4
"""Conversations per batch for an LLM teacher; small, so that progress is visible and a dead worker costs little."""


def work(context: StageContext) -> StageOutcome:
    """Writes the dataset into ``context.output``."""
    run = context.input
    preflight(run, context.environment)
    writing = _DatasetWriting(context)
    if run.generation.teacher.name != "scripted":
        context.store.reserve_headroom()
        ResponseCache(context.store, turns_path(run.generation.teacher)).repair()
    environment = context.environment
    shape = pool_shape(run, environment.workers)
    with RayPool(run, shape, environment.budget, _may_pay(context), environment.ray_address) as pool:
        audit, agent = writing.write_all(pool)
        usage = pool.usage()
    conversations = writing.conversations
    if run.generation.teacher.name == "scripted":
        return write_dataset(writing.graph, conversations, audit, context.output)
    outcome = write_dataset(writing.graph, drop_near_duplicates(conversations), audit, context.output, agent)
    message = "; ".join(filter(None, (outcome.message, str(writing.totals))))
    return StageOutcome(message, usd=format_usd(usage.usd), tokens=usage.tokens) if usage else StageOutcome(message)


def preflight(run: RunInput, environment: StageEnvironment) -> None:
    """Rejects invalid input before anything starts or costs money. Raises InvalidInputError."""
    if errors := analyse(run.procedure).errors:
        raise InvalidInputError("; ".join(map(str, errors[:5])))
    if (uri := run.base_model.uri).startswith(VOLUME_SCHEME):  # the other sources are out of this pod's reach
        require_trainable(model_on_volume(uri), uri, run.training.max_length)
    if run.generation.teacher.name != "scripted":
        resolve_account(run.generation.teacher, TEACHER_FIELD, environment)


def pool_shape(run: RunInput, workers: int | None) -> PoolShape:
    """The batch size and the concurrency that suit the teacher. An LLM teacher mostly waits, so one process is its default."""
    if run.generation.teacher.name == "scripted":
        return PoolShape(workers=workers or min(MAX_WORKERS, available_cpus()), batch=SCRIPTED_BATCH, concurrency=1)
    count = workers or 1
    # As many conversations at hand as calls can be in flight, plus one batch.
    in_flight = MAX_LLM_CALLS // LLM_BATCH + 1
    return PoolShape(count, LLM_BATCH, MAX_LLM_CALLS, in_flight, calls=MAX_LLM_CALLS * count)


def find_encoder(models: Path) -> Encoder | None:
    """The sentence encoder in the folder `models`; `None`, with a warning, where it is not."""
    folder = models / MODEL
    if folder.is_dir():
        return SentenceEncoder(folder)
    log.warning("there is no %s, so whether the teacher's agent follows the procedure is not checked", folder)
    return None


@dataclass
class WritingTotals:
    """Totals over the conversations finished so far."""

    finished: int = 0
    turns: int = 0
    reused: int = 0

    def add(self, finished: Sequence[Conversation]) -> None:
        self.finished += len(finished)
        self.turns += sum(len(conversation.utterances) + len(conversation.guesses) for conversation in finished)
        self.reused += sum(conversation.reused for conversation in finished)

    def __str__(self) -> str:
        """For example ``1,200 of 1,600 turns reused``; empty if none was reused."""
        return f"{self.reused:,} of {self.turns:,} turns reused" if self.reused else ""


def progress_fields(usage: UsageStats | None, totals: WritingTotals) -> dict[str, Any]:
    """Additional progress fields for an LLM teacher; none for a scripted one."""
    return {} if usage is None else usage.progress_fields(str(totals))


class _DatasetWriting:
    """Writes the planned conversations of a run, pilot first, and reports progress."""

    def __init__(self, context: StageContext) -> None:
        self._run, self._progress, self._models = context.input, context.progress, context.environment.models
        self.graph = Graph(self._run.procedure)
        self.totals = WritingTotals()
        plan = plan_conversations(self._run.procedure, self._run.generation)
        if self._run.generation.teacher.name == "scripted":
            plan = with_typed_openers(self.graph, plan)
        self._by_id = {spec.id: Conversation(spec) for spec in plan}

    @property
    def conversations(self) -> list[Conversation]:
        """All planned conversations, as far as they are written."""
        return list(self._by_id.values())

    def write_all(self, pool: RayPool) -> tuple[BranchAudit, AgentAudit | None]:
        """Finishes every conversation. Raises InvalidInputError after the pilot if the rest would be unusable."""
        self._report(pool)
        self._write(pool, (conversation for conversation in self.conversations if conversation.spec.audited))
        require_usable(self.conversations)
        audit, agent = audit_branches(self.conversations), self._audit_agent()
        if self._run.generation.audit == "Enforce":
            require_decidable(self.graph, audit)
            if agent is not None:
                require_followed(agent)
        self._write(pool, self.conversations)
        return audit, agent

    def _audit_agent(self) -> AgentAudit | None:
        """The audit of a teacher's agent; `None` for the scripted one, whose agents say the author's examples."""
        encoder = None if self._run.generation.teacher.name == "scripted" else find_encoder(self._models)
        return None if encoder is None else audit_agent(self.graph, self.conversations, encoder)

    def _write(self, pool: RayPool, conversations: Iterable[Conversation]) -> None:
        def done(batch: Sequence[Conversation]) -> None:
            self._by_id.update({conversation.spec.id: conversation for conversation in batch})
            self.totals.add(batch)
            self._report(pool)

        pool.write([conversation for conversation in conversations if not conversation.finished], done)

    def _report(self, pool: RayPool) -> None:
        fields = progress_fields(pool.usage(), self.totals)
        self._progress.update(self.totals.finished, len(self._by_id), "conversations", **fields)


def _may_pay(context: StageContext) -> Callable[[], None]:
    """A check that raises StageError if no more calls may be made. Captures little, as it is sent to the worker process."""
    lease, store = context.lease, context.store

    def check() -> None:
        lease.check()
        store.require_headroom()

    return check
