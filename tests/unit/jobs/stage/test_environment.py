"""Environment variables of a stage and of the exporter: defaults, values, and the message for a bad value."""

from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.environment import EXPORTER_PORT, TERMINATION_LOG
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.exporter.environment import ExporterEnvironment
from subterra_jobs.stage.environment import CONCURRENCY, StageEnvironment, termination_log

EXPORTER = {"SUBTERRA_USD_PER_HOUR": "2.50", "SUBTERRA_TURNS_PER_CONVERSATION": "5"}


def test_unset_and_empty_variables_leave_the_defaults() -> None:
    names = (
        "BUDGET",
        "GATE",
        "JUDGING",
        "PRICES",
        "OPENAI_ENDPOINTS",
        "VLLM_URL",
        "REFERENCE_URLS",
        "CONCURRENCY",
        "WORKERS",
        "MODELS_DIR",
    )
    unset = StageEnvironment.parse({})
    assert StageEnvironment.parse({f"SUBTERRA_{name}": "" for name in names}) == unset
    assert (unset.budget.max_usd, unset.gate.attempt, unset.concurrency, unset.workers) == (None, 1, CONCURRENCY, None)
    assert unset.models == Path("/app/models")
    assert (unset.vllm_url, unset.reference_urls, unset.endpoints) == ("http://127.0.0.1:8000", (), ())


def test_every_variable_is_parsed() -> None:
    environment = StageEnvironment.parse(
        {
            "SUBTERRA_BUDGET": '{"maxUSD": "20"}',
            "SUBTERRA_GATE": '{"attempt": 3}',
            "SUBTERRA_JUDGING": '{"mode": "Batch", "waitMinutes": 30}',
            "SUBTERRA_PRICES": '{"qwen": {"input": "1", "output": "2"}}',
            "SUBTERRA_OPENAI_ENDPOINTS": '["http://llm"]',
            "SUBTERRA_VLLM_URL": "http://candidate",
            "SUBTERRA_REFERENCE_URLS": '["http://serving", "http://anchor"]',
            "SUBTERRA_CONCURRENCY": "8",
            "SUBTERRA_WORKERS": "2",
            "SUBTERRA_MODELS_DIR": "/models",
            "OPENAI_API_KEY": "sk-secret",
        }
    )
    assert (environment.budget.max_usd, environment.gate.attempt) == ("20", 3)
    assert (environment.judging.mode, environment.judging.wait_minutes) == ("Batch", 30)
    assert environment.prices["qwen"].output == Decimal(2)
    assert (environment.endpoints, environment.vllm_url) == (("http://llm",), "http://candidate")
    assert environment.reference_urls == ("http://serving", "http://anchor")
    assert (environment.concurrency, environment.workers, environment.models) == (8, 2, Path("/models"))
    assert environment.keys == {"anthropic": "", "openai": "sk-secret"}
    assert "sk-secret" not in repr(environment)


def test_a_line_break_at_the_end_of_a_secret_is_no_part_of_the_key() -> None:
    environment = StageEnvironment.parse({"OPENAI_API_KEY": "sk-secret\n", "HF_TOKEN": " hf-secret\r\n"})
    assert (environment.keys["openai"], environment.hub_token) == ("sk-secret", "hf-secret")


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.1:6379"),
        ({"RAY_DASHBOARD_ADDRESS": "shop-x7k2p-head-svc.demo.svc:8265"}, "shop-x7k2p-head-svc.demo.svc:6379"),
        ({"RAY_DASHBOARD_ADDRESS": "http://shop-x7k2p-head-svc.demo.svc:8265"}, "shop-x7k2p-head-svc.demo.svc:6379"),
    ],
)
def test_a_cluster_of_kuberays_is_joined_at_the_head_whose_dashboard_it_names(
    variables: dict[str, str], address: str | None
) -> None:
    assert StageEnvironment.parse(variables).ray_address == address
    assert StageEnvironment.parse({}).ray_address is None


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("SUBTERRA_BUDGET", '{"maxUSD": 20}', r"\(maxUSD: .*set JSON such as"),
        ("SUBTERRA_GATE", "{", "set JSON such as"),
        ("SUBTERRA_JUDGING", '{"mode": "Later"}', r"\(mode: .*set JSON such as"),
        ("SUBTERRA_PRICES", '{"qwen": "1"}', r"\(qwen: .*set JSON such as"),
        ("SUBTERRA_OPENAI_ENDPOINTS", "http://llm", "set a JSON list of URLs"),
        ("SUBTERRA_REFERENCE_URLS", "[1]", r"\(0: .*set a JSON list of URLs"),
        ("SUBTERRA_CONCURRENCY", "0", "set a whole number above 0"),
        ("SUBTERRA_WORKERS", "many", "set a whole number above 0"),
    ],
)
def test_a_bad_value_is_reported_with_variable_value_and_fix(name: str, value: str, fix: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} is .*{fix}") as error:
        StageEnvironment.parse({name: value})
    assert repr(value) in str(error.value)


def test_the_termination_log_is_known_even_if_nothing_else_can_be_parsed() -> None:
    assert termination_log({"SUBTERRA_BUDGET": "{"}) == Path(TERMINATION_LOG)
    assert termination_log({"SUBTERRA_TERMINATION_LOG": "/tmp/log"}) == Path("/tmp/log")


def test_the_exporter_needs_two_variables() -> None:
    environment = ExporterEnvironment.parse(EXPORTER)
    assert (environment.usd_per_hour, environment.turns_per_conversation) == (Decimal("2.50"), 5.0)
    assert (environment.vllm_url, environment.port, environment.model_digest) == ("http://127.0.0.1:8000", EXPORTER_PORT, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUBTERRA_USD_PER_HOUR", "cheap"),
        ("SUBTERRA_USD_PER_HOUR", "NaN"),
        ("SUBTERRA_TURNS_PER_CONVERSATION", "0"),
        ("SUBTERRA_EXPORTER_PORT", "http"),
    ],
)
def test_a_bad_value_of_the_exporter_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} is '{value}'; set "):
        ExporterEnvironment.parse({**EXPORTER, name: value})
