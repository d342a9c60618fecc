"""The exporter publishes what a pod's monitor has counted, in the bytes that the operator reads."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.environment import MONITOR_STATE_FILE, RECORDER_COUNTS_FILE
from subterra_api.job_contract.messages import HubCounts, MonitorState, PodPrice, ServedCounts, ServedSample, ServedWork
from subterra_jobs.exporter.environment import ExporterEnvironment
from subterra_jobs.exporter.exported_metrics import families
from subterra_jobs.exporter.main import Exporter
from subterra_jobs.exporter.monitor_files import MAX_SAMPLE_BYTES, read_monitor_files, short_enough

COUNTS = ServedCounts(
    requests=9, conversations=3, conformant=2, asserted=5, fabricated=1, endings={"done": 2}, hubs={"choice": HubCounts(turns=3)}
)
STATE = MonitorState(sample=ServedSample(week="2026-11-23", current=COUNTS), total=COUNTS)


def exporter(folder: Path | None) -> Exporter:
    return Exporter(ExporterEnvironment(Decimal(2), 5.0, "sha256:1", "http://127.0.0.1:1", 0, folder))


def write(folder: Path, state: MonitorState = STATE) -> None:
    (folder / MONITOR_STATE_FILE).write_text(state.model_dump_json(by_alias=True, exclude_none=True))
    (folder / RECORDER_COUNTS_FILE).write_text(json.dumps({"seen": 12, "recorded": 9, "rate": 3}))


def test_the_page_of_the_price_has_the_weeks_counts(tmp_path: Path) -> None:
    write(tmp_path)
    found = PodPrice.model_validate(json.loads(exporter(tmp_path).page("/price").body))
    assert found.sample is not None
    assert found.sample.current.hubs == COUNTS.hubs


def test_without_a_monitor_the_page_has_nothing_new(tmp_path: Path) -> None:
    assert b"sample" not in exporter(None).page("/price").body
    assert b"sample" not in exporter(tmp_path).page("/price").body, "the monitor has not written yet"
    assert b"monitored_requests_total{" not in exporter(None).page("/metrics").body


def test_metrics_have_outcomes_endings_values_hubs_and_what_was_dropped(tmp_path: Path) -> None:
    write(tmp_path)
    page = exporter(tmp_path).page("/metrics").body.decode()
    for line in (
        'requests_total{model_digest="sha256:1",state="recorded"} 9.0',
        'requests_total{model_digest="sha256:1",state="rate"} 3.0',
        'conversations_total{model_digest="sha256:1",outcome="violation"} 1.0',
        'values_total{kind="fabricated",model_digest="sha256:1"} 1.0',
        'endings_total{model_digest="sha256:1",terminal="done"} 2.0',
        'hub_turns_total{hub="choice",model_digest="sha256:1",recognized="true"} 3.0',
    ):
        assert f"subterra_serving_monitored_{line}" in page
    assert 'state="seen"' not in page


def test_every_metric_of_the_table_has_values_with_and_without_a_monitor(tmp_path: Path) -> None:
    write(tmp_path)
    for folder in (None, tmp_path):
        served = read_monitor_files(folder)
        assert [*families(ServedWork(), Decimal(1), "m", served, vllm_up=True)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sample": 1}'])
def test_a_damaged_file_is_as_none_and_ends_no_page(tmp_path: Path, content: str) -> None:
    (tmp_path / MONITOR_STATE_FILE).write_text(content)
    assert b"sample" not in exporter(tmp_path).page("/price").body


def test_a_page_has_the_hubs_that_most_customers_came_to() -> None:
    hubs = {f"hub_{number:03}_{'x' * 50}": HubCounts(turns=number, unrecognized=1) for number in range(300)}
    part = ServedCounts(hubs=hubs, endings={"done": 1})
    found = short_enough(ServedSample(week="2026-11-23", current=part, previous=part, reference=part))
    assert len(found.model_dump_json(by_alias=True, exclude_none=True)) <= MAX_SAMPLE_BYTES
    assert found.current.hubs
    assert min(hub.turns for hub in found.current.hubs.values()) > 280
    assert found.reference is not None
    assert found.current.hubs.keys() == found.reference.hubs.keys()
