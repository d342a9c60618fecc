"""`subterra sample` with a hosted teacher, over the wire with the real SDKs: what is asked, refused and paid."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_cli.files.model_file import SDKS_MISSING
from subterra_cli.main import app
from subterra_core.pricing import format_usd
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.sample.sample_run import SampleRun, planned_sample
from subterra_jobs.generate.workers.worker import Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.account import resolve_account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.generation_inputs import PAID, example, run_input
from subterra_testkit.servers.fake_llm_api import BAD_KEY, FakeLLMApi, fake_llm_api, plain_answer, role_of

TRAVEL = str(EXAMPLES / "travel" / "procedure.yaml")
SONNET = f"anthropic:{PAID['model']}"
PER_CALL = Decimal("0.0036")
"""600 tokens in and 120 out at list price."""


def sample(*arguments: str, teacher: str = SONNET) -> Result:
    return CliRunner().invoke(app, ["sample", TRAVEL, "--teacher", teacher, *arguments])


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def sent(api: FakeLLMApi) -> list[str]:
    """All requests, whatever their order."""
    return sorted(json.dumps(body, sort_keys=True) for body in api.bodies)


def compile_defaults(store: Path) -> RunInput:
    """A compile with the settings that `sample` assumes for a hosted teacher."""
    return run_input(store, example("travel"), teacher=PAID, conversations=2125, heldOutPercent=10, seeds=[42])


async def compiled(run: RunInput, count: int) -> list[Conversation]:
    """The first conversations as the generate stage's worker writes them."""
    guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget(max_usd="5"))
    worker = Worker(run, 4, AdmissionQueue(guard, RateLimiter(64)))
    try:
        planned = plan_conversations(run.procedure, run.generation)[:count]
        return list((await worker.write([Conversation(spec) for spec in planned])).finished)
    finally:
        await worker.close()


def test_the_requests_are_those_of_the_compile(api: FakeLLMApi, tmp_path: Path) -> None:
    told(sample("-n", "4", "-o", "json"))
    sampled = sent(api)
    api.bodies.clear()
    asyncio.run(compiled(compile_defaults(tmp_path), 4))
    assert sampled
    assert sampled == sent(api)


def test_words_checks_and_cache_keys_are_those_of_the_compile(api: FakeLLMApi, tmp_path: Path) -> None:
    run = compile_defaults(tmp_path)
    graph, account = Graph(run.procedure), resolve_account(run.generation.teacher, "teacher", StageEnvironment.parse(os.environ))
    plan = planned_sample(graph, run.generation, 4)
    sample_run = SampleRun(graph, plan, run.generation, account, Decimal(1), on_progress=lambda progress: None)
    sampled = [each.conversation for each in asyncio.run(sample_run.write()).conversations]
    assert sampled == asyncio.run(compiled(run, 4))
    assert all(each.turn_keys for each in sampled)


def test_without_the_sdks_the_fix_is_named(api: FakeLLMApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "subterra_jobs.llm.anthropic_client", None)
    result = sample()
    assert result.exit_code == 2
    assert SDKS_MISSING in result.stderr


def test_the_forecast_comes_first_and_what_was_paid_last(api: FakeLLMApi) -> None:
    result = sample("-n", "2")
    assert result.exit_code == 0
    assert result.stderr.startswith("2 conversations: ")
    assert f"calls of {PAID['model']}, forecast $0." in result.stderr
    assert "never more than $1" in result.stderr
    assert f"{api.paid:,} calls, {720 * api.paid:,} tokens, ${format_usd(PER_CALL * api.paid)}" in result.stdout.splitlines()[-1]


def test_a_forecast_above_the_cap_is_refused_before_the_first_call(api: FakeLLMApi) -> None:
    result = sample("-n", "50", "--max-usd", "0.05")
    assert result.exit_code == 2
    assert api.calls == 0
    assert "more than --max-usd 0.05; nothing was paid. Raise --max-usd, write fewer conversations (-n)" in result.stderr


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("anthropic:claude-sonnet-9", "--teacher: no price is known for model 'claude-sonnet-9'; did you mean"),
        ("anthropic:claude-opus-4-1", "--teacher: claude-opus-4-1 retired on"),
        ("openai:gpt-4.1", "--teacher: openai needs a key; set OPENAI_API_KEY"),
    ],
)
def test_an_unknown_or_retired_model_and_a_missing_key_are_refused_before_the_first_call(
    teacher: str, message: str, api: FakeLLMApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = sample(teacher=teacher)
    assert (result.exit_code, api.calls) == (2, 0)
    assert message in result.stderr


def test_refused_turns_and_frame_leaks_are_shown_with_their_reasons(api: FakeLLMApi) -> None:
    leaked: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        if role_of(body) == "agent" and not leaked:
            leaked.append("<think>the next turn</think> Hello.")
            return leaked[0]
        return plain_answer(body)

    api.answer = answer
    found = told(sample("-n", "1", "-o", "json"))
    (refused,) = found["conversations"][0]["refused"]
    assert (refused["attempt"], refused["text"], refused["frameLeak"]) == (1, leaked[0], True)
    assert refused["problem"].startswith("has a t")
    assert (found["totals"]["refused"], found["totals"]["frameLeaks"], found["totals"]["dropped"]) == (1, 1, 0)
    leaked.clear()
    text = sample("-n", "1").stdout
    assert f'attempt 1 (frame leak, {refused["problem"]}): "{refused["text"]}"' in text
    assert "1 turn refused by the checks, 1 frame leak among them" in text


def test_a_dropped_conversation_is_shown_with_its_reason_as_far_as_it_was_written(api: FakeLLMApi) -> None:
    def answer(body: dict[str, Any]) -> str:
        return "**Bold**" if role_of(body) == "customer" else plain_answer(body)

    api.answer = answer
    result = sample("-n", "1", "-o", "json")
    found = json.loads(result.stdout)["conversations"][0]
    assert result.exit_code == 1
    assert "has markup" in found["dropped"]
    assert len(found["refused"]) == 3
    assert len(found["messages"]) == len(found["words"]) < len(found["path"]) + 1
    assert f"  dropped: {found['dropped']}" in sample("-n", "1").stdout.splitlines()


def test_a_failure_shows_what_is_finished_and_what_was_paid(api: FakeLLMApi) -> None:
    api.after = (30, BAD_KEY)
    result = sample("-n", "5", "-o", "json")
    assert result.exit_code == 2
    assert "stopped: the provider refuses the key (HTTP 401, invalid x-api-key); correct ANTHROPIC_API_KEY" in result.stderr
    assert "Secret" not in result.stderr
    found = json.loads(result.stdout)
    assert (found["totals"]["calls"], found["totals"]["usd"]) == (30, "0.108")


def test_the_cap_holds_whatever_the_forecast_said(api: FakeLLMApi) -> None:
    api.output_tokens = 390
    result = sample("-n", "6", "--max-usd", "0.30", "-o", "json")
    assert result.exit_code == 2
    assert 0 < Decimal(json.loads(result.stdout)["totals"]["usd"]) <= Decimal("0.30")
    assert "stopped: the next call could exceed --max-usd 0.3," in result.stderr
    assert "raise --max-usd" in result.stderr


def test_ctrl_c_finishes_the_turns_in_progress_and_shows_what_was_paid(api: FakeLLMApi) -> None:
    pressed = threading.Event()

    def answer(body: dict[str, Any]) -> str:
        if api.paid >= 12 and not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), signal.SIGINT)
        return plain_answer(body)

    api.answer = answer
    result = sample("-n", "20", "--max-usd", "5", "-o", "json")
    assert pressed.is_set()
    assert result.exit_code == 1
    assert "ending: turns in progress are finished" in result.stderr
    assert " of 20 conversations were finished" in result.stderr
    assert json.loads(result.stdout)["totals"]["usd"] == format_usd(PER_CALL * api.paid)
    assert api.paid < 40


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLMApi]:
    """An OpenAI-compatible server without a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_llm_api() as served:
        yield served


def test_a_server_of_ones_own_needs_a_price_and_no_key_when_it_is_free(own_server: FakeLLMApi, tmp_path: Path) -> None:
    url = ("--base-url", f"{own_server.url}/v1", "-n", "2")
    unpriced = sample(*url, teacher="openai:qwen")
    assert unpriced.exit_code == 2
    assert "pass it with --prices FILE" in unpriced.stderr
    prices = tmp_path / "prices.yaml"
    prices.write_text('qwen: {input: "0", output: "0"}\n')
    found = told(sample(*url, "--prices", str(prices), "-o", "json", teacher="openai:qwen"))
    assert (found["totals"]["calls"], found["totals"]["usd"]) == (own_server.paid, "0")
    assert own_server.paid > 0
    assert {body["model"] for body in own_server.bodies} == {"qwen"}
