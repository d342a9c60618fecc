"""The price of a conversation: from counters to dollars."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from subterra_api.job_contract.messages import ExitCode
from subterra_api.v1alpha1.compiledagent import Price
from subterra_jobs.exporter.meter import LONGEST_STRETCH, Reading, ServingMeter
from subterra_jobs.exporter.scrape import parse, scrape
from subterra_testkit.servers.fake_vllm_metrics import FakeVLLMMetrics, fake_vllm_metrics
from subterra_testkit.servers.local_server import free_port

REST = Reading(running=0, completed=0, inference_seconds=0.0)


def meter(usd: str = "3.60", turns: float = 4) -> ServingMeter:
    return ServingMeter(Decimal(usd), turns)


def status_price(measured: ServingMeter) -> Price:
    """The meter's price without the exact sums."""
    return Price.model_validate(measured.price().model_dump(mode="json", by_alias=True))


def feed(target: ServingMeter, readings: list[tuple[float, Reading | None]]) -> ServingMeter:
    for now, reading in readings:
        target.observe(now, reading)
    return target


def test_a_resting_vllm_is_idle_all_the_time() -> None:
    measured = feed(meter(), [(float(second), REST) for second in range(11)])
    assert (measured.busy_seconds, measured.idle_seconds) == (0, 10)
    assert status_price(measured) == Price(usd_per_hour="3.6", conversations=0, idle_percent=100)


def test_a_short_request_between_two_readings_counts_its_own_time_and_not_the_interval() -> None:
    done = replace(REST, completed=1, inference_seconds=0.2)
    measured = feed(meter(), [(0, REST), (1, done), (2, done)])
    assert measured.busy_seconds == pytest.approx(0.2)
    assert measured.idle_seconds == pytest.approx(1.8)


def test_a_long_request_counts_as_it_ran_over_many_readings() -> None:
    running = replace(REST, running=1)
    done = replace(REST, completed=1, inference_seconds=4.3)
    measured = feed(meter(), [(0, REST), *((second, running) for second in range(1, 5)), (5, done)])
    assert measured.busy_seconds == pytest.approx(4.3)
    assert measured.idle_seconds == pytest.approx(0.7)


def test_overlapping_requests_never_make_more_busy_time_than_there_was_time() -> None:
    done = replace(REST, completed=8, inference_seconds=7.0)
    measured = feed(meter(), [(0, REST), (1, replace(REST, running=8)), (2, done)])
    assert measured.busy_seconds == pytest.approx(7 / 8)


def test_a_vllm_that_never_rests_is_busy_and_is_counted_before_it_does() -> None:
    seconds = int(2 * LONGEST_STRETCH)
    readings = [(second, Reading(running=3, completed=second, inference_seconds=3.0 * second)) for second in range(1, seconds + 1)]
    measured = feed(meter(), [(0.0, REST), *readings])
    assert measured.busy_seconds == pytest.approx(seconds, abs=1)


def test_an_aborted_request_counts_as_time_but_not_as_conversation() -> None:
    measured = feed(meter(), [(0, REST), (1, replace(REST, running=1)), (2, REST)])
    assert measured.busy_seconds == 1, "it began and ended at some moment of a second each"
    assert measured.conversations == 0


def test_without_inference_times_what_the_readings_see_counts() -> None:
    rest = replace(REST, inference_seconds=None)
    running = replace(rest, running=2)
    measured = feed(meter(), [(0, rest), (1, running), (2, running), (3, replace(rest, completed=2))])
    assert (measured.busy_seconds, measured.idle_seconds) == (2, 1)


def test_the_price_is_hardware_time_over_conversations() -> None:
    done = replace(REST, completed=8, inference_seconds=20.0)
    measured = feed(meter("3.60", turns=4), [(0, REST), (40, done), (100, done)])
    assert status_price(measured) == Price(
        usd_per_conversation="0.01", usd_per_conversation_with_idle="0.05", usd_per_hour="3.6", conversations=2, idle_percent=80
    )


def test_sums_go_on_when_vllm_starts_again() -> None:
    before, after = replace(REST, completed=10, inference_seconds=2.0), replace(REST, completed=3, inference_seconds=0.5)
    measured = feed(meter(), [(0, REST), (10, before), (11, None), (20, after), (21, after)])
    assert measured.completed == 13
    assert measured.busy_seconds + measured.idle_seconds == 21


def test_a_vllm_out_of_reach_for_a_moment_is_not_counted_again() -> None:
    before = replace(REST, completed=10, inference_seconds=2.0)
    measured = feed(meter(), [(0, REST), (10, before), (11, None), (12, before)])
    assert measured.completed == 10


def test_what_ran_before_the_exporter_came_has_no_part_in_the_price() -> None:
    old = replace(REST, completed=1000, inference_seconds=500.0)
    measured = feed(meter(), [(0, old), (1, old)])
    assert measured.completed == 0


def test_requests_of_a_vllm_that_started_after_the_exporter_are_all_counted() -> None:
    measured = feed(meter(), [(0, None), (60, replace(REST, completed=2, inference_seconds=0.3))])
    assert measured.completed == 2
    assert measured.idle_seconds == 60


observations = st.lists(
    st.tuples(
        st.floats(0, 50),
        st.one_of(
            st.none(),
            st.builds(
                Reading,
                running=st.integers(0, 3).map(float),
                completed=st.integers(0, 50).map(float),
                inference_seconds=st.one_of(st.none(), st.floats(0, 100)),
            ),
        ),
    ),
    max_size=30,
)


@given(observations)
def test_sums_only_grow_and_all_time_is_busy_or_idle(steps: list[tuple[float, Reading | None]]) -> None:
    measured, now, seen = meter(), 0.0, (0.0, 0.0, 0.0)
    for wait, reading in steps:
        now += wait
        measured.observe(now, reading)
        sums = (measured.busy_seconds, measured.idle_seconds, measured.completed)
        assert all(new >= old for new, old in zip(sums, seen, strict=True))
        seen = sums
    start = steps[0][0] if steps else 0.0
    measured.observe(now, None)
    assert measured.busy_seconds + measured.idle_seconds == pytest.approx(now - start, abs=1e-6)


def test_the_page_is_read_as_vllm_writes_it() -> None:
    figures = FakeVLLMMetrics(running=2, completed=5, aborted=9, prompt_tokens=500, generation_tokens=100, inference=1.5)
    assert parse(figures.page()) == Reading(2, 5, 500, 100, 1.5)
    answered = 'http_requests_total{handler="/v1/chat/completions",method="POST",status='
    others = 'http_requests_total{handler="/v1/models",method="GET",status="2xx"} 900\n'
    read = parse(f'{figures.page()}{answered}"2xx"}} 30\n{answered}"4xx"}} 4\n{answered}"5xx"}} 2\n{others}')
    assert read is not None
    assert (read.completed, read.requests, read.failed_requests) == (5, 36, 2)
    assert parse("<html>not a metrics page</html>") is None
    assert parse("") is None


def test_a_vllm_that_is_not_there_yet_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert scrape(f"http://127.0.0.1:{port}") is None


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return str(answer.read().decode())


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.05)
    raise AssertionError("did not come true in time")


@contextmanager
def exporter(vllm_url: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    env = (
        os.environ
        | {
            "SUBTERRA_USD_PER_HOUR": "2.50",
            "SUBTERRA_TURNS_PER_CONVERSATION": "5",
            "SUBTERRA_MODEL_DIGEST": "sha256:abc",
            "SUBTERRA_VLLM_URL": vllm_url,
            "SUBTERRA_EXPORTER_PORT": str(port),
        }
        | environment
    )
    process = subprocess.Popen([sys.executable, "-m", "subterra_jobs.exporter"], env=env)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def samples(page: str) -> dict[str, float]:
    return {
        sample.name.removeprefix("subterra_serving_") + sample.labels.get("kind", ""): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_the_exporter_waits_for_vllm_prices_its_work_and_ends_at_once() -> None:
    port = free_port()
    with exporter(f"http://127.0.0.1:{port}") as (process, url):
        wait_for(lambda: get(f"{url}/healthz") == "ok\n")
        assert "usdPerConversation" not in json.loads(get(f"{url}/price"))
        with fake_vllm_metrics(port) as figures:
            wait_for(lambda: figures.scrapes >= 2)
            figures.complete(20, seconds=0.01)
            wait_for(lambda: json.loads(get(f"{url}/price"))["conversations"] == 4)
            price = Price.model_validate_json(get(f"{url}/price"))
            metrics = samples(get(f"{url}/metrics"))
        # 0.2 s of busy time at $2.50 an hour over 4 conversations
        assert Decimal(price.usd_per_conversation or 0) == pytest.approx(Decimal("0.000035"), abs=Decimal("0.000001"))
        assert price.idle_percent is not None
        assert price.idle_percent >= 80
        assert metrics["busy_seconds_total"] == pytest.approx(0.2)
        assert metrics["conversations_total"] == 4
        assert metrics["tokens_totalprompt"] == 2000
        assert metrics["tokens_totalgeneration"] == 400
        assert metrics["vllm_up"] == 1
        assert metrics["usd_per_conversation"] == pytest.approx(2.5 * 0.2 / 3600 / 4), "to the last digit"
        hours = (metrics["busy_seconds_total"] + metrics["idle_seconds_total"]) / 3600
        assert metrics["usd_total"] == pytest.approx(2.5 * hours)
        assert metrics["usd_per_conversation_with_idle"] == pytest.approx(2.5 * hours / 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(2) == 0


def test_the_exporter_is_small() -> None:
    with exporter("http://127.0.0.1:1") as (process, url):
        wait_for(lambda: get(f"{url}/healthz") == "ok\n")
        with open(f"/proc/{process.pid}/status") as status:  # noqa: PTH123
            rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    assert rss < 70 * 1024


@pytest.mark.parametrize(
    "environment",
    [{"SUBTERRA_USD_PER_HOUR": "cheap"}, {"SUBTERRA_USD_PER_HOUR": "NaN"}, {"SUBTERRA_TURNS_PER_CONVERSATION": "0"}],
)
def test_a_wrong_setting_is_named(environment: dict[str, str]) -> None:
    with exporter("http://127.0.0.1:1", **environment) as (process, _):
        assert process.wait(20) == ExitCode.INVALID_INPUT
