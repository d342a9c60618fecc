"""The generate stage: plan, write on Ray, keep. Run as ``python -m subterra_jobs.generate --input FILE``."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from subterra_api.contract import RunInput
from subterra_api.graph import Graph
from subterra_api.lint import analyse
from subterra_api.pricing import money
from subterra_jobs.common.errors import InvalidInputError
from subterra_jobs.common.stage import Outcome, StageContext
from subterra_jobs.generate import cpus
from subterra_jobs.generate.audit import audit, require_decidable
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.drafts import Drafts
from subterra_jobs.generate.plan import plan
from subterra_jobs.generate.ray_pool import RayPool, Shape
from subterra_jobs.generate.writer import Conversation

WORKERS_VARIABLE = "SUBTERRA_WORKERS"
"""Number of writing processes; by default one per processor, at most `MOST_WORKERS`."""
MOST_WORKERS = 16
SCRIPTED_BATCH = 200
PAID_CONCURRENCY = 32
"""Conversations at once with a paid teacher, over all workers: about what a provider's first usage tier lets through."""
PAID_WORKERS = 2
"""Waiting for answers takes hardly any processor time."""


def work(context: StageContext) -> Outcome:
    """Writes the dataset into ``context.output``."""
    run = context.input
    preflight(run)
    graph, slots = Graph(run.procedure), plan(run.procedure, run.generation)
    drafts = Drafts(context.store, run.keys.dataset)
    conversations = {slot.id: Conversation(slot) for slot in slots} | drafts.load(slots)

    def reload(batch: Sequence[Conversation]) -> list[Conversation]:
        saved = drafts.load([each.slot for each in batch])
        return [saved.get(each.slot.id, each) for each in batch]

    with RayPool(run, shape(run), context.budget, context.lease.check) as pool:

        def done(batch: Sequence[Conversation]) -> None:
            conversations.update({each.slot.id: each for each in batch})
            usd, tokens = pool.totals()
            finished = sum(1 for each in conversations.values() if each.finished)
            context.progress.update(finished, len(slots), "conversations", usd=money(usd), tokens=tokens)

        done([])
        pool.write(_unfinished(each for each in conversations.values() if each.slot.audited), done, reload)
        found = audit(conversations.values())
        require_decidable(graph, found)
        pool.write(_unfinished(conversations.values()), done, reload)
        usd, tokens = pool.totals()
    outcome = write_dataset(graph, list(conversations.values()), found, context.output)
    return replace(outcome, usd=money(usd), tokens=tokens)


def _unfinished(conversations: Iterable[Conversation]) -> list[Conversation]:
    return [each for each in conversations if not each.finished]


def preflight(run: RunInput) -> None:
    """Refuses what cannot work before anything starts or costs. Raises InvalidInputError."""
    if errors := analyse(run.procedure).errors:
        raise InvalidInputError("; ".join(map(str, errors[:5])))
    if run.generation.teacher.name == "anthropic":
        from subterra_jobs.generate.anthropic_teacher import key_and_model

        key_and_model(run.generation.teacher.model)


def shape(run: RunInput) -> Shape:
    """How many processes and how much at once."""
    given = os.environ.get(WORKERS_VARIABLE, "")
    workers = int(given) if given.isdecimal() and int(given) > 0 else min(MOST_WORKERS, cpus.available())
    if run.generation.teacher.name == "scripted":
        return Shape(workers=workers, batch=SCRIPTED_BATCH, concurrency=1)
    workers = min(workers, PAID_WORKERS)
    concurrency = PAID_CONCURRENCY // workers
    return Shape(workers=workers, batch=max(1, concurrency // 2), concurrency=concurrency, in_flight=3)
