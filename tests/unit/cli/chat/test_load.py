"""`subterra load`: what it counts, and that a failure is one whatever would have hidden it."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from subterra_cli import cluster
from subterra_cli.chat.load.load_figures import LoadResult, load_figures, load_table, percentile
from subterra_cli.chat.load.load_run import LoadRun, arrivals, customers
from subterra_cli.chat.load.measured_client import MeasuredClient, MeasuredRequest
from subterra_cli.main import app
from subterra_jobs.evaluate.simulate.vllm_client import UnplayableError
from subterra_testkit.cluster.fake_reader import FakeReader
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, Fault, fake_llm_api

SHOP = procedure(
    agent("hello", "ask", examples=["What do you want?"]),
    user("ask", branch("tea", "Tea, please."), branch("coffee", "Coffee, please.")),
    end("tea", examples=["Here is your tea."]),
    end("coffee", examples=["Here is your coffee."]),
)
EVENTS = ('{"choices": [{"delta": {"role": "assistant", "content": ""}}]}', '{"choices": [{"delta": {"content": "Wel"}}]}')
LAST = ('{"choices": [{"delta": {"content": "come"}, "finish_reason": "stop"}]}',)
USED = ('{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}', "[DONE]")


def request(seconds: float = 1.0, error: str | None = None, first: float | None = 0.25) -> MeasuredRequest:
    return MeasuredRequest(0.0, seconds, first, 10, 4, error)


def streamed(*events: str) -> httpx.Response:
    return httpx.Response(200, text="".join(f"data: {event}\n\n" for event in events))


async def asked(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[str, MeasuredRequest]:
    """The reply or the failure of one request, and how it was measured."""
    requests = list[MeasuredRequest]()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://agent") as http:
        try:
            text = (await MeasuredClient(http, "shop", 50, requests, stream=True).reply([])).text
        except UnplayableError as error:
            text = f"failed: {error}"
    return text, requests[0]


async def test_a_stream_is_read_to_its_end_and_counted_by_the_servers_own_tokens() -> None:
    text, measured = await asked(lambda _: streamed(*EVENTS, *LAST, *USED))
    assert (text, measured.error, measured.prompt_tokens, measured.completion_tokens) == ("Welcome", None, 5, 2)
    assert measured.first_token is not None and 0 < measured.first_token <= measured.seconds


def gone(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda _: httpx.Response(503, text="no"), "HTTP 503"),
        (lambda _: streamed(*EVENTS), "unreadable reply"),
        (lambda _: streamed(*EVENTS, '{"error": {"message": "the engine is dead"}}'), "unreadable reply"),
        (gone, "RemoteProtocolError"),
    ],
    ids=["refused", "cut in the middle", "an error as an event", "closed while it was asked"],
)
async def test_a_failure_is_counted_by_its_kind_and_asked_only_once(
    answer: Callable[[httpx.Request], httpx.Response], kind: str
) -> None:
    times = list[int]()
    text, measured = await asked(lambda request: times.append(1) or answer(request))
    assert (text, measured.error, len(times)) == (f"failed: {kind}", kind, 1)


async def test_customers_of_the_load_are_no_customers_of_the_agents_to_the_monitor() -> None:
    headers = list[str]()
    await asked(lambda request: headers.append(request.headers["x-subterra-record"]) or streamed(*LAST, *USED))
    assert headers == ["no"]


def test_arrivals_know_nothing_of_each_other() -> None:
    found = arrivals(5, 400, random.Random(1))
    assert found == sorted(found) and found[-1] < 400
    assert 1900 < len(found) < 2100
    pauses = [later - before for before, later in pairwise(found)]
    mean = sum(pauses) / len(pauses)
    spread = (sum((pause - mean) ** 2 for pause in pauses) / len(pauses)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.1), "pauses of a Poisson process spread as much as they last"


async def test_a_slow_agent_keeps_nobody_from_coming() -> None:
    """Open loop: a load that waited for replies would hide how long customers wait."""
    talking, most, enough = 0, 0, asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal talking, most
        talking += 1
        most = max(most, talking)
        if talking == 6:
            enough.set()
        await asyncio.wait_for(enough.wait(), 30)
        talking -= 1
        return streamed(*LAST, *USED)

    run = LoadRun("http://agent", "shop", SHOP, customers(SHOP, 10, 1), transport=httpx.MockTransport(slow))
    result = await run.open_loop([0.0, 0.001, 0.002, 0.003, 0.004, 0.005])
    assert most == 6 and result.conversations == result.finished == 6


async def test_an_api_key_goes_with_each_request() -> None:
    seen = list[str | None]()

    async def guarded(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return streamed(*LAST, *USED)

    run = LoadRun("http://agent", "shop", SHOP, customers(SHOP, 10, 1), api_key="s3cret", transport=httpx.MockTransport(guarded))
    await run.open_loop([0.0])
    assert seen and set(seen) == {"Bearer s3cret"}


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (90, 9), (99, 10), (100, 10), (1, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], percent) == value


def test_figures_leave_failures_out_of_latencies_and_count_them_by_kind() -> None:
    requests = [request(), request(3.0), request(0.001, "HTTP 503", None), request(120.0, "ReadTimeout", None)]
    figures = load_figures(LoadResult(requests, 3, 2, 10.0), Decimal("1.20"))
    assert figures["latencySeconds"] == {"p50": 1.0, "p90": 3.0, "p99": 3.0, "max": 3.0}
    assert (figures["requestsFailed"], figures["errors"]) == (2, {"HTTP 503": 1, "ReadTimeout": 1})
    assert (figures["tokensPerSecond"], figures["promptTokensPerSecond"]) == (0.8, 2.0)
    assert Decimal(figures["usdPerConversation"]) == pytest.approx(Decimal("0.00167")), "10 s at $1.20 an hour for two"
    assert "  ReadTimeout: 1" in load_table(figures)


def test_nothing_measured_is_said_and_not_divided_by() -> None:
    figures = load_figures(LoadResult([], 0, 0, 0.0))
    assert (figures["latencySeconds"], figures["usdPerConversation"]) == (None, None)
    assert "not measured" in "\n".join(load_table(figures))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    fake = FakeReader(SHOP)
    fake.agent["status"]["price"] = {"usdPerHour": "0.50"}
    fake.agent["status"]["replicas"] = 2
    monkeypatch.setattr(cluster, "ResourceReader", lambda target: fake)
    return fake


def load(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["load", "shop", "-n", "demo", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command_plays_the_procedures_customers_and_prices_them(served: FakeReader) -> None:
    with fake_llm_api(FakeLLMApi(answer=lambda body: "Fine.")) as api:
        code, said = load("--clients", "2", "--for", "1s", "--no-stream", "--url", api.url, "-o", "json")
    figures = json.loads(said)
    assert code == 0 and figures["requestsFailed"] == 0 and figures["conversationsFinished"] > 0
    assert figures["usdPerConversation"] is not None
    assert {body["messages"][-1]["content"] for body in api.bodies} & {"Tea, please.", "Coffee, please."}


def test_a_failed_request_is_its_exit_code(served: FakeReader) -> None:
    with fake_llm_api(FakeLLMApi(answer=lambda body: "Fine.", faults=deque([Fault(500)]))) as api:
        code, said = load("--rate", "20", "--for", "1s", "--no-stream", "--url", api.url)
    assert code == 1 and "HTTP 500: 1" in said


def test_a_load_needs_either_a_rate_or_clients(served: FakeReader) -> None:
    assert load()[0] == load("--rate", "1", "--clients", "2")[0] == 2


def test_of_a_model_that_was_compiled_elsewhere_the_procedure_is_asked_for(served: FakeReader, tmp_path: Path) -> None:
    served.agent["spec"] = {"model": {"uri": "pvc://m", "digest": "sha256:1"}}
    code, said = load("--rate", "1", "--url", "http://127.0.0.1:9")
    assert code == 2 and "--procedure" in said
