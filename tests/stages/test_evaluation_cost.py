"""What an evaluation will cost, told before it begins: compared with what fakes bill, and refused when no cap could pay it."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.messages import Budget, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.pricing import UnknownModelError, price_of
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.evaluate.cost_estimate import dummy_conversation, estimate_cost
from subterra_jobs.evaluate.main import work
from subterra_jobs.evaluate.scenarios.build import build_scenarios, rare_branch_scenarios
from subterra_jobs.llm import cost_estimate as assumptions
from subterra_jobs.llm.client import Request, single_message
from subterra_jobs.llm.cost_estimate import (
    HIGH,
    LOW,
    Cost,
    CostEstimate,
    CostItem,
    OutputAssumptions,
    PricedModel,
    cost_of,
    priced_model,
)
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.runs.evaluation_runs import SONNET, FaultlessProvider, fake_provider, run_input
from subterra_testkit.runs.generation_inputs import example, travel
from subterra_testkit.runs.judgements import is_judging, is_labelling, schema_of, turns_of
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi

GPT = {"name": "openai", "model": "gpt-4.1"}
BASELINES = [{"kind": "InContext", "provider": SONNET}, {"kind": "Orchestrator", "provider": SONNET}]
SCENARIOS = 10
BRIEF = replace(LOW, turn_tokens=0, score_tokens=40, label_tokens=14)
"""What `Company` really says: the procedure's own words, and judgements and labels of about this length."""


def expected(run: RunInput, conditions: int = 3) -> CostEstimate:
    """The forecast for a run whose dataset is gone and that has played nothing."""
    graph = Graph(run.procedure)
    listed = build_scenarios(graph, run.evaluation)
    rare = rare_branch_scenarios(graph, run.evaluation, listed)
    unfinished = [[*listed, *rare], *[listed] * (conditions - 1)]
    return estimate_cost(graph, run.evaluation, {}, listed, unfinished, 0, more=len(rare))


def judged_run(folder: Path, **more: Any) -> RunInput:
    """Everybody is a model."""
    return run_input(
        folder / "store", **{"scenarios": SCENARIOS, "judge": SONNET, "secondJudge": GPT, "baselines": BASELINES, **more}
    )


def answers(assumed: OutputAssumptions) -> Any:
    """Tokens of an answer, if models are as talkative as assumed."""

    def said(body: dict[str, Any]) -> int:
        if is_judging(body):
            return assumed.score_tokens * len((schema_of(body) or {})["properties"])
        if is_labelling(body):
            return assumed.label_tokens * len(turns_of(body))
        return assumed.turn_tokens or 8

    return said


def company(assumed: OutputAssumptions) -> FakeLLMApi:
    return FakeLLMApi(answer=FaultlessProvider(travel()), input_tokens=None, output_tokens=answers(assumed))


@contextmanager
def everybody(api: FakeLLMApi) -> Iterator[None]:
    """The candidate's server and the provider."""
    with ExitStack() as stack:
        url, _ = stack.enter_context(fake_chat_server(travel()))
        stack.enter_context(fake_provider(api))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("SUBTERRA_VLLM_URL", url)
        patch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        yield


def evaluate(run: RunInput, max_usd: str | None = None) -> StageResult:
    environment = replace(StageEnvironment.parse(os.environ), budget=Budget(max_usd=max_usd))
    return execute("evaluate", work, run, environment=environment, port=0)


def ledger(folder: Path) -> list[Mapping[str, Any]]:
    files = (folder / "store" / "ledger").rglob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def cached_and_sent(folder: Path) -> tuple[int, int]:
    """Tokens of prompts that were read from providers' caches, and all of them."""
    read = sum(entry["cacheRead"] for entry in ledger(folder))
    return read, read + sum(entry["input"] + entry["cacheWrite"] for entry in ledger(folder))


def who(entry: Mapping[str, Any]) -> str:
    """The forecast's part that a payment belongs to; both baselines are one."""
    if "judges" in entry:
        return "judge" if entry["model"] == SONNET["model"] else "second judge"
    return "labeller" if "labels" in entry else "customers" if entry["plays"] == "customer" else "baseline"


def of(found: CostEstimate, name: str) -> Cost:
    return sum((part.low for part in found.parts if part.name.startswith(name)), Cost())


def test_each_part_takes_the_calls_and_dollars_that_were_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to 2 %, dollars to 10 %, when models are as talkative as assumed."""
    monkeypatch.setattr(assumptions, "LOW", BRIEF)
    run = judged_run(tmp_path)
    with everybody(company(BRIEF)):
        evaluate(run)
    found, paid = expected(run), ledger(tmp_path)
    for name in ("customers", "baseline", "judge", "second judge", "labeller"):
        entries = [entry for entry in paid if who(entry) == name]
        told = of(found, name)
        assert told.calls == pytest.approx(len(entries), rel=0.02), name
        assert float(told.usd) == pytest.approx(sum(float(entry["usd"]) for entry in entries), rel=0.1), name


def test_what_is_paid_lies_between_least_and_most_and_the_report_tells_all_three(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = judged_run(tmp_path)
    found = expected(run)
    between = replace(HIGH, turn_tokens=40, score_tokens=90, label_tokens=28)
    with everybody(company(between)), caplog.at_level(logging.INFO, "subterra"):
        result = evaluate(run)
    assert found.low.usd < Decimal(result.usd) < found.high.usd
    data = json.loads((tmp_path / "store" / artifact_path("evaluate", run.keys.report) / "report.json").read_text())
    assert data["provenance"]["price of the evaluation"] == f"forecast {found}, paid ${float(result.usd):.2f}"
    read, sent = cached_and_sent(tmp_path)
    assert read > 0
    assert data["provenance"]["input read from providers' caches"] == f"{read / sent:.0%}"
    lines = [record.getMessage() for record in caplog.records]
    [told] = [line for line in lines if line.startswith("the evaluation will cost about")]
    assert all(part.name in told for part in found.parts)
    assert any("steps" in line and f"forecast {found}" in line for line in lines), "progress tells it"
    assert any("% of input cached" in line for line in lines)
    # Another evaluation of the same model plays nothing again.
    caplog.clear()
    again = run.model_copy(update={"keys": run.keys.model_copy(update={"report": "sha256:" + "b" * 64})})
    with everybody(company(between)), caplog.at_level(logging.INFO, "subterra"):
        evaluate(again)
    [told] = [line for line in map(logging.LogRecord.getMessage, caplog.records) if "will cost about" in line]
    assert "customers $0.00 to $0.00" in told


def test_nothing_is_paid_when_the_cap_could_not_pay_the_least(tmp_path: Path) -> None:
    run, api = judged_run(tmp_path), company(LOW)
    found = expected(run)
    with everybody(api), pytest.raises(BudgetExceededError) as refused:
        evaluate(run, max_usd="0.75")
    assert api.calls == 0
    told = str(refused.value)
    for words in (
        f"the evaluation will cost about {found} (customers ",
        "the cap per run is $0.75: run travel-1 paid $0, $0.75 is left; nothing has been paid yet",
        "raise spec.budget.maxUSDPerRun of agent travel, or reduce the cost: fewer evaluation.scenarios, no evaluation.baselines",
    ):
        assert words in told


def test_an_evaluation_that_has_begun_goes_on_until_the_cap_stops_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows what conversations under way lack, so no forecast may stop it. What is paid is forecast no more."""
    run, api = judged_run(tmp_path, baselines=[], scenarios=10), company(replace(HIGH, turn_tokens=300, score_tokens=300))
    cap = f"{expected(run, 1).low.usd + Decimal('0.2'):.2f}"
    with everybody(api), caplog.at_level(logging.INFO, "subterra"):
        for _ in range(2):
            with pytest.raises(BudgetExceededError, match="the next call could cost"):
                evaluate(run, max_usd=cap)
        begun = api.paid
        result = evaluate(run)
    assert begun > 0
    assert Decimal(result.usd) > Decimal(cap)
    told = re.findall(r"the evaluation will cost about \$([\d.]+) ", caplog.text)
    assert len(told) == 3
    assert Decimal(told[2]) < Decimal(told[0])


@pytest.mark.parametrize("name", ["travel", "insurance", "zoom"])
def test_stand_ins_take_the_scenarios_path_and_end_with_the_agent(name: str) -> None:
    spec = example(name)
    graph, run = Graph(spec), run_input(Path("/nowhere"), spec, scenarios=40)
    for scenario in build_scenarios(graph, run.evaluation):
        chat = dummy_conversation(graph, scenario, LOW)
        roles = [turn["role"] for turn in chat]
        assert all(one != other for one, other in pairwise(roles))
        assert roles[-1] == "assistant"
        turns = sum(graph.nodes[node].role == "user" for node in scenario.path)
        assert sum(turn["role"] == "user" for turn in chat) <= turns + (scenario.opener is not None)
        assert len(dummy_conversation(graph, scenario, HIGH)) == len(chat) + 2 * HIGH.extra_exchanges


def test_scripted_players_and_judges_cost_nothing(tmp_path: Path) -> None:
    run = run_input(tmp_path / "store", simulator={"name": "scripted"})
    assert expected(run, 1).parts == ()
    run = judged_run(tmp_path, simulator={"name": "scripted"}, baselines=[])
    assert [part.name for part in expected(run, 1).parts] == ["judge", "second judge", "labeller"]


def test_a_model_without_a_price_is_named_with_its_field(tmp_path: Path) -> None:
    run = judged_run(tmp_path, secondJudge={"name": "openai", "model": "nobody-1"})
    with pytest.raises(UnknownModelError, match=r"evaluation\.secondJudge\.model: no price is known for model 'nobody-1'"):
        expected(run)


def of_model(name: str) -> PricedModel:
    return priced_model(Provider.model_validate({"name": "anthropic", "model": name}), "field", {})


def test_a_constant_part_is_written_to_the_cache_once_where_the_model_keeps_it() -> None:
    """1,100 tokens: enough for Sonnet 4.5, too few for 4.6."""
    calls = [(Request("s" * 4400, single_message("", "q" * 400).messages), 10)] * 3
    price, output = price_of("claude-sonnet-4-5"), 3 * 10 * price_of("claude-sonnet-4-5").output
    kept = (1100 * price.cache_write + 2200 * price.cache_read + 300 * price.input + output) / 1_000_000
    whole = (3600 * price.input + output) / 1_000_000
    assert cost_of(of_model("claude-sonnet-4-5"), calls, LOW) == Cost(3, 3600, 30, kept)
    assert cost_of(of_model("claude-sonnet-4-6"), calls, LOW).usd == whole
    assert cost_of(of_model("claude-sonnet-4-5"), calls, HIGH).usd == whole * (1 + HIGH.retry_share)


def test_a_model_with_finer_tokens_bills_more_of_them_for_the_same_text() -> None:
    calls = [(Request("s" * 4000, single_message("", "q" * 400).messages), 100)]
    old, new = (cost_of(of_model(name), calls, HIGH) for name in ("claude-sonnet-4-6", "claude-sonnet-5-5"))
    assert (old.input, old.output) == (1210, 110)
    assert new.input == pytest.approx(1.3 * old.input, rel=0.01)
    thinking = 1.1 * HIGH.thinking["low"]  # the newer model thinks before it answers
    assert new.output - thinking == pytest.approx(1.3 * old.output, rel=0.01)


def test_answers_that_are_kept_are_paid_no_more() -> None:
    part = CostItem("judge", "m", Cost(100, 1000, 100, Decimal(4)), Cost(110, 2000, 200, Decimal(8)))
    assert part.minus_cached(25).low == Cost(75, 750, 75, Decimal(3))
    assert part.minus_cached(25).high.usd == 6
    assert part.minus_cached(300).high.usd == 0


@pytest.mark.parametrize(
    ("low", "high", "told"), [("0.512", "1.2", "$0.51 to $1.20"), ("56.7", "1311.2", "$57 to $1,311"), ("0", "0", "$0.00 to $0.00")]
)
def test_a_span_is_told_with_as_many_digits_as_matter(low: str, high: str, told: str) -> None:
    assert str(CostEstimate((CostItem("p", "m", Cost(usd=Decimal(low)), Cost(usd=Decimal(high))),))) == told
