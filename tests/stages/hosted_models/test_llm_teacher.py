"""The paid teacher, over the real wire with the real SDK: what it is asked, what it survives, what it pays."""

import json
import os
import re
import time
import uuid
from collections import deque
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Budget, ExitCode, RunInput
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError, ProviderBlockedError, ProviderUnavailableError
from subterra_jobs.generate.main import preflight
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers import worker as worker_module
from subterra_jobs.generate.workers.worker import TEACHER_FIELD, BatchResult, Worker
from subterra_jobs.generate.write.llm_teacher import LLMTeacher
from subterra_jobs.generate.write.prompts import Prompts
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.account import make_client, resolve_account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.metered_client import MeteredClient, RetryPolicy
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input, travel
from subterra_testkit.servers.fake_llm_api import (
    BAD_KEY,
    BROKEN,
    CUT,
    NO_CREDIT,
    NO_SUCH_MODEL,
    OVERLOADED,
    RATE_LIMITED,
    FakeLLMApi,
    Fault,
    role_of,
)

PER_CALL = Decimal("0.0036")
"""600 tokens in and 120 out at list price."""


def guard_of(run: RunInput, max_usd: str | None = None) -> BudgetGuard:
    return BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget(max_usd=max_usd))


def queue_of(guard: BudgetGuard, calls: int = 64) -> AdmissionQueue:
    return AdmissionQueue(guard, RateLimiter(calls))


async def write(run: RunInput, plan: list[ConversationSpec], guard: BudgetGuard | None = None, concurrency: int = 4) -> BatchResult:
    """What a worker makes of the plan."""
    worker = Worker(run, concurrency, queue_of(guard or guard_of(run)))
    try:
        return await worker.write([Conversation(planned) for planned in plan])
    finally:
        await worker.close()


def paid_run(tmp_path: Path, *, spec: ProcedureSpec | None = None) -> tuple[RunInput, list[ConversationSpec]]:
    run = run_input(tmp_path, spec, teacher=PAID)
    return run, plan_conversations(run.procedure, run.generation)


def kept(folder: Path) -> list[str]:
    """The records of the turn store."""
    return [line for file in (folder / "turns").rglob("*.jsonl") for line in file.read_text().splitlines()]


def turns(plan: list[ConversationSpec]) -> int:
    """Calls that they take, the blind reader's among them."""
    return sum(len(planned.path) + len(planned.audited) for planned in plan)


def caller_of(guard: BudgetGuard, patience: float = 0.5) -> MeteredClient:
    """With little patience."""
    account = resolve_account(Provider.model_validate(PAID), TEACHER_FIELD, StageEnvironment.parse(os.environ))
    answers = ResponseCache(ArtifactStore("memory://none"), uuid.uuid4().hex)
    return MeteredClient(account, make_client(account), queue_of(guard), answers, RetryPolicy(patience, first_wait=0.01))


async def one_call(guard: BudgetGuard, planned: ConversationSpec, patience: float = 0.5) -> str:
    """The first turn of a planned conversation."""
    teacher = LLMTeacher(Graph(travel()), caller_of(guard, patience))
    try:
        return (await teacher.write_turn(Conversation(planned), 0)).text
    finally:
        await teacher.close()


async def test_each_node_is_one_call_and_is_booked_at_list_price(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    guard = guard_of(run)
    batch = await write(run, plan, guard)
    assert batch.failure is None
    assert len(batch.finished) == 20
    assert not [each.drop_reason for each in batch.finished if each.drop_reason]
    assert api.paid == turns(plan)
    assert await guard.totals() == (PER_CALL * api.paid, 720 * api.paid)


async def test_the_customer_is_told_the_branch_and_the_agent_never_is(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    await write(run, plan)
    whens = [edge.when.partition("{{")[0] for node in travel().nodes for edge in node.next if edge.when]
    said = re.compile("<conversation>.*</conversation>")
    agents = [said.sub("", json.dumps(body)) for body in api.bodies if role_of(body) == "agent"]
    customers = [json.dumps(body) for body in api.bodies if role_of(body) == "customer"]
    assert all(any(when in asked for asked in customers) for when in whens)
    assert not any(when in asked for asked in agents for when in whens)
    assert "until seven days before departure" in agents[0]


async def test_the_constant_part_of_a_prompt_has_the_same_bytes_in_every_call(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    await write(run, plan[:5])
    for role in ("agent", "customer"):
        systems = {json.dumps(body["system"]) for body in api.bodies if role_of(body) == role}
        assert len(systems) == 1


async def test_rate_limits_overload_errors_and_cut_connections_are_survived_without_paying_more(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    run, plan = paid_run(tmp_path)
    api.faults = deque([RATE_LIMITED, OVERLOADED, Fault(), BROKEN, CUT, RATE_LIMITED, CUT, Fault(), OVERLOADED])
    guard = guard_of(run)
    batch = await write(run, plan, guard)
    assert batch.failure is None
    assert len(batch.finished) == 20
    assert api.paid == turns(plan)
    assert guard.spent == PER_CALL * api.paid


async def test_the_wait_that_the_provider_asks_for_is_kept(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    api.faults = deque([Fault(429, "rate_limit_error", "slow down", retry_after=0.3)])
    started = time.monotonic()
    await one_call(guard_of(run), plan[0], patience=5)
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("fault", [OVERLOADED, BROKEN, CUT, RATE_LIMITED])
async def test_a_provider_that_stays_away_ends_the_stage_as_unavailable(api: FakeLLMApi, tmp_path: Path, fault: Fault) -> None:
    run, plan = paid_run(tmp_path)
    api.after = (0, fault)
    with pytest.raises(ProviderUnavailableError, match="did not answer"):
        await one_call(guard_of(run), plan[0])
    assert api.calls > 1
    assert guard_of(run).spent == 0


@pytest.mark.parametrize(
    ("fault", "error", "cure"),
    [
        (BAD_KEY, ProviderBlockedError, "execution.apiKeySecret"),
        (Fault(403, "permission_error", "no"), ProviderBlockedError, "execution.apiKeySecret"),
        (NO_CREDIT, ProviderBlockedError, "top up"),
        (Fault(402, "billing_error", "no money"), ProviderBlockedError, "top up"),
        (Fault(400, "invalid_request_error", "You have reached your specified API usage limits."), ProviderBlockedError, "raise"),
        (NO_SUCH_MODEL, InvalidInputError, "generation.teacher.model"),
        (Fault(400, "invalid_request_error", "key sk-test-secret is odd"), InvalidInputError, r"key \*\*\* is odd"),
    ],
)
async def test_a_refusal_ends_the_stage_at_once_with_its_cure(
    api: FakeLLMApi, tmp_path: Path, fault: Fault, error: type[Exception], cure: str
) -> None:
    run, plan = paid_run(tmp_path)
    api.after = (0, fault)
    with pytest.raises(error, match=cure):
        await one_call(guard_of(run), plan[0])
    assert api.calls == 1


async def test_spend_never_exceeds_the_cap_and_what_is_paid_is_kept(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    batch = await write(run, plan, guard_of(run, "0.2"), concurrency=8)
    assert batch.failure is not None
    assert batch.failure.code == ExitCode.BUDGET_EXCEEDED
    assert batch.failure.message.startswith("the cap per run is $0.2: run travel-1 paid $0.1")
    assert batch.failure.message.endswith("raise spec.budget.maxUSDPerRun of agent travel")
    assert Decimal("0.1") < PER_CALL * api.paid <= Decimal("0.2")
    assert guard_of(run).spent == PER_CALL * api.paid
    assert len(kept(tmp_path)) == api.paid


async def test_after_the_cap_was_raised_the_next_attempt_pays_for_the_rest_only(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    assert (await write(run, plan, guard_of(run, "0.2"))).failure is not None
    again = await write(run, plan, guard_of(run, "2"))
    assert (again.failure, len(again.finished)) == (None, 20)
    assert api.paid == turns(plan)
    assert guard_of(run).spent == PER_CALL * api.paid


async def test_a_cap_that_is_used_up_refuses_before_the_first_call(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    batch = await write(run, plan, guard_of(run, "0"))
    assert batch.failure is not None
    assert batch.failure.code == ExitCode.BUDGET_EXCEEDED
    assert "run travel-1 paid $0, $0 is left" in batch.failure.message
    assert api.calls == 0


async def test_the_reservation_is_more_than_any_call_can_cost(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    request = Prompts(Graph(travel())).turn(plan[0], 0, [])
    assert caller_of(guard_of(run)).worst_case(request) > Decimal(request.size * 3 + 400 * 15) / 1_000_000


async def test_without_credit_the_stage_is_blocked_and_a_retry_pays_for_the_rest_only(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    api.after = (60, NO_CREDIT)
    batch = await write(run, plan)
    assert batch.failure is not None
    assert batch.failure.code == ExitCode.PROVIDER_BLOCKED
    api.after = None
    again = await write(run, plan)
    assert again.failure is None
    assert len(again.finished) == 20
    assert api.paid == turns(plan)
    assert guard_of(run).spent == PER_CALL * api.paid


async def test_a_call_that_was_given_up_unanswered_counts_in_full(
    api: FakeLLMApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subterra_jobs.llm.anthropic_client.CALL_TIMEOUT_SECONDS", 0.2)
    api.faults = deque([Fault(seconds=1.0)])
    run, plan = paid_run(tmp_path)
    await one_call(guard_of(run), plan[0], patience=5)
    assert [payment.usd > PER_CALL for payment in Ledger(ArtifactStore(run.store), run.run).new_payments()] == [True, False]
    assert api.paid == 2


async def test_a_bad_turn_is_written_again(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    words = iter(["Hello {{destination}}", "Customer: hi"])
    api.answer = lambda _: next(words, "Where would you like to go?")
    batch = await write(run, plan[:1])
    assert batch.finished[0].drop_reason is None
    assert api.paid == turns(plan[:1]) + 2


async def test_a_conversation_with_a_hopeless_turn_is_dropped_and_not_paid_for_again(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    api.answer = lambda _: "I am in ask_budget now."
    for _ in range(2):
        batch = await write(run, plan[:1])
    assert api.paid == 3
    assert batch.finished[0].drop_reason == "node greet names a node: ask_budget"


async def test_an_answer_cut_at_the_token_limit_is_a_bad_turn(api: FakeLLMApi, tmp_path: Path) -> None:
    run, plan = paid_run(tmp_path)
    api.stop_reason = "max_tokens"
    assert "ended with max_tokens" in str((await write(run, plan[:1])).finished[0].drop_reason)


async def test_when_one_conversation_fails_the_others_end_soon(
    api: FakeLLMApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.2)
    run, plan = paid_run(tmp_path)
    api.faults = deque([Fault(429, "rate_limit_error", "wait", retry_after=100), BAD_KEY])
    batch = await write(run, plan, concurrency=2)
    assert batch.failure is not None
    assert batch.failure.code == ExitCode.PROVIDER_BLOCKED


@pytest.mark.parametrize(
    ("teacher", "key", "cure"),
    [
        (PAID, "", "execution.apiKeySecret"),
        ({"name": "openai", "model": "gpt-4.1"}, "", "execution.apiKeySecret"),
        ({"name": "anthropic", "model": "nobody-1"}, "sk", "generation.teacher.model"),
        ({"name": "openai", "model": "gpt-4.1", "baseURL": "https://elsewhere"}, "sk", r"openai\.endpoints"),
    ],
)
def test_what_the_teacher_lacks_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: dict[str, str], key: str, cure: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InvalidInputError, match=cure):
        preflight(run_input(tmp_path, teacher=teacher), StageEnvironment.parse(os.environ))
