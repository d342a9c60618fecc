"""Spans of calls to hosted models: tokens, dollars, retries and failures, and no word of what was said."""

from collections.abc import Iterator
from typing import Any

import pytest

from subterra_api.job_contract.environment import COLLECTOR_VARIABLE
from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.errors import ProviderBlockedError
from subterra_jobs.stage import tracing as module
from subterra_jobs.stage.tracing import Tracing, start_tracing
from subterra_testkit.servers.fake_llm_api import BAD_KEY, OVERLOADED, RATE_LIMITED, FakeLLMApi, Fault
from subterra_testkit.span_collector import SpanCollector, span_collector

SONNET = {"name": "anthropic", "model": "claude-sonnet-4-6"}
QWEN = {"name": "openai", "model": "qwen"}
RUN = RunIdentity(name="run-1", namespace="demo", uid="3f2b8c1e-8f0e-4c55-9a3e-0123456789ab")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanCollector]:
    monkeypatch.setattr(module, "_tracing", Tracing())
    with span_collector() as served:
        start_tracing(RUN, {COLLECTOR_VARIABLE: served.url})
        yield served


async def test_a_call_tells_model_server_tokens_and_dollars_and_a_retry_is_an_event(serving: Any, collector: SpanCollector) -> None:
    api = FakeLLMApi(answer=lambda _: "a secret reply")
    api.faults.extend([RATE_LIMITED, OVERLOADED])
    with serving(api, SONNET) as setup:
        await setup.ask("a secret question")
        await setup.ask("a secret question", setup.client())  # paid already: no call, so no span
        await setup.close()
    module.tracing().flush()
    [span] = collector.spans
    assert (span.name, span.kind, span.error) == ("chat claude-sonnet-4-6", "client", None)
    assert span.trace == RUN.uid.replace("-", "")
    assert span.attributes.pop("server.port") == int(api.url.rpartition(":")[2])
    assert span.attributes.pop("subterra.usd") == float(setup.booked())
    assert span.attributes.pop("gen_ai.request.max_tokens") > 0
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-6",
        "gen_ai.output.type": "text",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 600,
        "gen_ai.usage.output_tokens": 120,
        "server.address": "127.0.0.1",
        "subterra.node": "ask",
    }
    assert [(name, found["error.type"]) for name, found in span.events] == [
        ("subterra.refused", "429"),
        ("subterra.refused", "529"),
    ]
    assert span.events[0][1]["subterra.retry_after_seconds"] == 0.05
    assert b"secret" not in collector.raw
    assert b"You play the agent" not in collector.raw


@pytest.mark.parametrize("fault", [BAD_KEY, Fault(body='{"told": "a secret reply"}')], ids=["refused", "unreadable"])
async def test_a_call_that_fails_has_its_kind_and_no_words_of_the_provider(
    serving: Any, collector: SpanCollector, fault: Fault
) -> None:
    api = FakeLLMApi(script=lambda _: fault)
    with serving(api, QWEN, own="/v1") as setup:
        with pytest.raises(Exception, match=r"provider refuses the key|unexpected form"):
            await setup.ask("a secret question")
        await setup.close()
    module.tracing().flush()
    [span] = collector.spans
    assert span.error == span.attributes["error.type"]
    assert span.error == ("401" if fault is BAD_KEY else "200")
    assert "gen_ai.usage.input_tokens" not in span.attributes
    assert b"secret" not in collector.raw


async def test_what_no_cap_allows_is_not_sent_and_has_no_span(serving: Any, collector: SpanCollector) -> None:
    with serving(FakeLLMApi(), SONNET, max_usd="0") as setup:
        with pytest.raises(Exception, match="cap"):
            await setup.ask()
        await setup.close()
    module.tracing().flush()
    assert collector.spans == []
    assert setup.api.calls == 0


async def test_without_a_collector_calls_are_as_before(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_tracing", Tracing())
    with serving(FakeLLMApi(script=lambda _: BAD_KEY), SONNET) as setup:
        assert "refuses the key" in await setup.failure(ProviderBlockedError)
        await setup.close()
