"""The generate stage: plan, write on Ray, keep. Run as ``python -m subterra_jobs.generate --input FILE``."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.messages import RunInput
from subterra_core.pricing import money
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.branch_audit import audit, require_decidable, require_usable
from subterra_jobs.generate.check.near_duplicates import without_repeats
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.plan import plan
from subterra_jobs.generate.workers import cpu_limit
from subterra_jobs.generate.workers.ray_pool import RayPool, Shape
from subterra_jobs.generate.workers.worker import TEACHER
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.llm.account import account_of
from subterra_jobs.llm.admission import Figures
from subterra_jobs.llm.response_cache import AnswerStore
from subterra_jobs.stage.runner import Outcome, StageContext

WORKERS_VARIABLE = "SUBTERRA_WORKERS"
"""Number of processes that write scripted words; by default one per processor, at most `MOST_WORKERS`."""
MOST_WORKERS = 16
SCRIPTED_BATCH = 200
PAID_IN_FLIGHT = 512
"""Calls at once: a limit of 4,000 a minute is used up with answers that take 7 s. The broker begins with few."""
PAID_BATCH = 4
"""Conversations that are handed out together; small, so that progress is seen and a dead worker costs little."""


def work(context: StageContext) -> Outcome:
    """Writes the dataset into ``context.output``."""
    run = context.input
    preflight(run)
    graph, slots = Graph(run.procedure), plan(run.procedure, run.generation)
    if run.generation.teacher.name != "scripted":
        context.store.set_room_aside()
        AnswerStore(context.store, turns_path(run.generation.teacher)).heal()
    conversations, tally = {slot.id: Conversation(slot) for slot in slots}, Tally()
    lease, store = context.lease, context.store

    def may_pay() -> None:  # in the broker's process
        lease.check()
        store.require_room()

    with RayPool(run, shape(run), context.budget, may_pay) as pool:

        def done(batch: Sequence[Conversation]) -> None:
            conversations.update({each.slot.id: each for each in batch})
            tally.add(batch)
            context.progress.update(tally.finished, len(slots), "conversations", **told(pool.figures(), tally))

        done([])
        pool.write(_unfinished(each for each in conversations.values() if each.slot.audited), done)
        require_usable(conversations.values())
        found = audit(conversations.values())
        if run.generation.audit == "Enforce":
            require_decidable(graph, found)
        pool.write(_unfinished(conversations.values()), done)
        figures = pool.figures()
    if figures is None:
        return write_dataset(graph, list(conversations.values()), found, context.output)
    outcome = write_dataset(graph, without_repeats(conversations.values()), found, context.output)
    message = "; ".join(filter(None, (outcome.message, str(tally))))
    return Outcome(message, usd=money(figures.usd), tokens=figures.tokens)


@dataclass
class Tally:
    """What came of the conversations so far."""

    finished: int = 0
    turns: int = 0
    reused: int = 0

    def add(self, finished: Sequence[Conversation]) -> None:
        self.finished += len(finished)
        self.turns += sum(len(each.said) + len(each.guesses) for each in finished)
        self.reused += sum(each.reused for each in finished)

    def __str__(self) -> str:
        """Such as ``1,200 of 1,600 turns reused``; empty when all were paid now."""
        return f"{self.reused:,} of {self.turns:,} turns reused" if self.reused else ""


def told(figures: Figures | None, tally: Tally) -> dict[str, Any]:
    """What progress tells of a paid teacher."""
    return {} if figures is None else figures.told(str(tally))


def _unfinished(conversations: Iterable[Conversation]) -> list[Conversation]:
    return [each for each in conversations if not each.finished]


def preflight(run: RunInput) -> None:
    """Refuses what cannot work before anything starts or costs. Raises InvalidInputError."""
    if errors := analyse(run.procedure).errors:
        raise InvalidInputError("; ".join(map(str, errors[:5])))
    if run.generation.teacher.name != "scripted":
        account_of(run.generation.teacher, TEACHER)


def shape(run: RunInput) -> Shape:
    """How many processes and how much at once."""
    given = os.environ.get(WORKERS_VARIABLE, "")
    workers = int(given) if given.isdecimal() and int(given) > 0 else min(MOST_WORKERS, cpu_limit.available())
    if run.generation.teacher.name == "scripted":
        return Shape(workers=workers, batch=SCRIPTED_BATCH, concurrency=1)
    # As many conversations at hand as calls may be in flight, and one batch more.
    return Shape(1, PAID_BATCH, PAID_IN_FLIGHT, in_flight=PAID_IN_FLIGHT // PAID_BATCH + 1, calls=PAID_IN_FLIGHT)
