"""What an edit of one prompt leaves paid: every node's in turn, with the real writer and keys, and a provider that answers at once.

Calls cost what their bytes come to at list price, so the conversation so far, which every call sends again, counts as input.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from bench.generation.planning import EXAMPLES, example, settings

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.pricing import price_of
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.plan.plan import Slot, plan
from subterra_jobs.generate.workers.worker import TEACHER
from subterra_jobs.generate.write.llm_teacher import PaidTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.client import Answer, Request, Usage
from subterra_jobs.llm.metered_client import Caller
from subterra_jobs.llm.rate_limit import Heard
from subterra_jobs.llm.response_cache import AnswerStore, Kept
from subterra_jobs.spending.ledger import Entry
from subterra_jobs.store.artifacts import ArtifactStore
from subterra_testkit.fake_llm_api import chatter

CONVERSATIONS = 100
MODEL = "claude-sonnet-4-5"
BYTES_PER_TOKEN = 4
HEAD = "| procedure | edited prompts | USD that stay paid | ceiling | worst node |\n|---|---|---|---|---|\n"


class Provider:
    """Twenty words that differ with what was asked."""

    async def ask(self, request: Request) -> Answer:
        """See `Client`."""
        said = f"Well, {chatter(request.messages[-1]['content'], 20)}."
        return Answer(said, None, Usage(request.size // BYTES_PER_TOKEN, len(said) // BYTES_PER_TOKEN))

    async def close(self) -> None:
        """Nothing is open."""


class Bill:
    """A broker that lets everything go and keeps what each conversation's calls cost, in their order."""

    def __init__(self) -> None:
        self.usd = defaultdict[str, list[Decimal]](list)

    async def admit(self, usd: Decimal, size: int, rank: int) -> int:
        """See `Broker`."""
        return 0

    async def settle(self, receipt: int, entry: Entry | None, heard: Heard) -> None:
        """See `Broker`."""
        assert entry is not None
        self.usd[entry["conversation"]].append(Decimal(entry["usd"]))

    def total(self) -> Decimal:
        """Dollars."""
        return sum((usd for each in self.usd.values() for usd in each), Decimal(0))


class Memory(AnswerStore):
    """The turn store without files."""

    def __init__(self, known: dict[str, Kept]) -> None:
        super().__init__(ArtifactStore("memory://none"), "none")
        self._known = known

    async def keep(self, key: str, kept: Kept) -> None:
        """In memory."""
        assert self._known is not None
        self._known[key] = kept


async def write(graph: Graph, slots: Sequence[Slot], known: dict[str, Kept]) -> Bill:
    """What is paid for the slots; ``known`` gets the answers too."""
    bill, account = Bill(), Account(TEACHER, "anthropic", MODEL, price_of(MODEL), "")
    writer = Writer(graph, PaidTeacher(graph, Caller(account, Provider(), bill, Memory(known))))
    for slot in slots:
        written = await writer.finish(Conversation(slot))
        assert written.dropped is None, written.dropped
    return bill


def edits(spec: ProcedureSpec) -> Iterator[tuple[str, ProcedureSpec]]:
    """The procedure after an edit of each prompt, of the same length."""
    for place, node in enumerate(spec.nodes):
        if node.prompt:
            other = node.model_copy(update={"prompt": node.prompt[:-1] + ("!" if node.prompt[-1] != "!" else "?")})
            yield node.id, spec.model_copy(update={"nodes": (*spec.nodes[:place], other, *spec.nodes[place + 1 :])})


def ceiling(slots: Sequence[Slot], bill: Bill, node: str) -> Decimal:
    """Dollars of the turns before the first visit, and their readings: the most that a scheme can reuse and keep the plan."""
    return sum((_before(slot, bill.usd[slot.id], node) for slot in slots), Decimal(0))


def _before(slot: Slot, usd: Sequence[Decimal], node: str) -> Decimal:
    if node not in slot.path:
        return sum(usd, Decimal(0))
    first, turns = slot.path.index(node), len(slot.path)
    assert len(usd) == turns + len(slot.audited)
    readings = [cost for decision, cost in zip(slot.audited, usd[turns:], strict=True) if decision.position < first]
    return sum([*usd[:first], *readings], Decimal(0))


async def measure(name: str) -> float:
    """The mean share for an example; writes its row."""
    graph, known = example(name), dict[str, Kept]()
    slots = plan(graph.spec, settings(CONVERSATIONS))
    before = await write(graph, slots, known)
    whole, shares, ceilings = before.total(), dict[str, float](), []
    for node, spec in edits(graph.spec):
        after = await write(Graph(spec), plan(spec, settings(CONVERSATIONS)), dict(known))
        shares[node] = float(1 - after.total() / whole)
        ceilings.append(float(ceiling(slots, before, node) / whole))
    mean, most, worst = (
        sum(shares.values()) / len(shares),
        sum(ceilings) / len(ceilings),
        min(shares, key=lambda node: shares[node]),
    )
    sys.stdout.write(f"| {name} | {len(shares)} | {mean:.1%} | {most:.1%} | {worst} {shares[worst]:.0%} |\n")
    return round(mean, 3)


def figures() -> dict[str, Any]:
    """All of them; writes the table on the way."""
    sys.stdout.write(HEAD)
    return {"usd_reused_after_edit": {name: asyncio.run(measure(name)) for name in EXAMPLES}}
