"""What stays paid after an edit of one prompt, for each node in turn, with the real writer and keys and an instant provider.

A call costs its bytes at list price, so the conversation so far, which every call repeats, counts as input.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from bench.generation.planning import EXAMPLES, example, settings

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.pricing import price_of
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import TEACHER_FIELD
from subterra_jobs.generate.write.llm_teacher import LLMTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.client import Request, Response, Usage
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.llm.rate_limit import CallOutcome
from subterra_jobs.llm.response_cache import CachedResponse, ResponseCache
from subterra_jobs.spending.ledger import LedgerEntry
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.servers.fake_llm_api import chatter

CONVERSATIONS = 100
MODEL = "claude-sonnet-4-5"
BYTES_PER_TOKEN = 4
HEAD = "| procedure | edited prompts | USD that stay paid | ceiling | worst node |\n|---|---|---|---|---|\n"


class Provider:
    """Answers twenty words that depend on the request."""

    async def complete(self, request: Request) -> Response:
        """See `Client`."""
        text = f"Well, {chatter(request.messages[-1]['content'], 20)}."
        return Response(text, None, Usage(request.size // BYTES_PER_TOKEN, len(text) // BYTES_PER_TOKEN))

    async def close(self) -> None:
        """There are no connections."""


class Bill:
    """Admits all calls and records their costs by conversation, in their order."""

    def __init__(self) -> None:
        self.usd = defaultdict[str, list[Decimal]](list)

    async def acquire(self, worst_case: Callable[[], Decimal], size: int, priority: int) -> int:
        """See `Admission`."""
        return 0

    async def settle(self, reservation: int, entry: LedgerEntry | None, outcome: CallOutcome) -> None:
        """See `Admission`."""
        assert entry is not None
        self.usd[entry["conversation"]].append(Decimal(entry["usd"]))

    def total(self) -> Decimal:
        """Total in dollars."""
        return sum((usd for each in self.usd.values() for usd in each), Decimal(0))


class Memory(ResponseCache):
    """A response cache without files."""

    def __init__(self, known: dict[str, CachedResponse]) -> None:
        super().__init__(ArtifactStore("memory://none"), "none")
        self._responses = known

    async def put(self, key: str, response: CachedResponse) -> None:
        """Keeps it in memory."""
        assert self._responses is not None
        self._responses[key] = response


async def write(graph: Graph, plan: Sequence[ConversationSpec], known: dict[str, CachedResponse]) -> Bill:
    """What is paid for the plan; ``known`` gets the answers too."""
    bill, account = Bill(), Account(TEACHER_FIELD, "anthropic", MODEL, price_of(MODEL), "")
    writer = Writer(graph, LLMTeacher(graph, MeteredClient(account, Provider(), bill, Memory(known))))
    for planned in plan:
        written = await writer.finish(Conversation(planned))
        assert written.drop_reason is None, written.drop_reason
    return bill


def edits(spec: ProcedureSpec) -> Iterator[tuple[str, ProcedureSpec]]:
    """The procedure with one prompt edited to another of the same length, for each prompt."""
    for index, node in enumerate(spec.nodes):
        if node.prompt:
            other = node.model_copy(update={"prompt": node.prompt[:-1] + ("!" if node.prompt[-1] != "!" else "?")})
            yield node.id, spec.model_copy(update={"nodes": (*spec.nodes[:index], other, *spec.nodes[index + 1 :])})


def ceiling(plan: Sequence[ConversationSpec], bill: Bill, node: str) -> Decimal:
    """Dollars of the turns before the first visit to ``node`` and of their audits: the upper limit of reuse with the same plan."""
    return sum((_before(planned, bill.usd[planned.id], node) for planned in plan), Decimal(0))


def _before(planned: ConversationSpec, usd: Sequence[Decimal], node: str) -> Decimal:
    if node not in planned.path:
        return sum(usd, Decimal(0))
    first, turns = planned.path.index(node), len(planned.path)
    assert len(usd) == turns + len(planned.audited)
    readings = [cost for decision, cost in zip(planned.audited, usd[turns:], strict=True) if decision.position < first]
    return sum([*usd[:first], *readings], Decimal(0))


async def measure_example(name: str) -> float:
    """Prints an example's row, and returns the mean share that stays paid."""
    graph, known = example(name), dict[str, CachedResponse]()
    plan = plan_conversations(graph.spec, settings(CONVERSATIONS))
    before = await write(graph, plan, known)
    whole, shares, ceilings = before.total(), dict[str, float](), []
    for node, spec in edits(graph.spec):
        after = await write(Graph(spec), plan_conversations(spec, settings(CONVERSATIONS)), dict(known))
        shares[node] = float(1 - after.total() / whole)
        ceilings.append(float(ceiling(plan, before, node) / whole))
    mean, most, worst = (
        sum(shares.values()) / len(shares),
        sum(ceilings) / len(ceilings),
        min(shares, key=lambda node: shares[node]),
    )
    sys.stdout.write(f"| {name} | {len(shares)} | {mean:.1%} | {most:.1%} | {worst} {shares[worst]:.0%} |\n")
    return round(mean, 3)


def measure() -> dict[str, Any]:
    """Prints the table, and returns the figures."""
    sys.stdout.write(HEAD)
    return {"usd_reused_after_edit": {name: asyncio.run(measure_example(name)) for name in EXAMPLES}}
