"""A stage's environment variables, parsed once when its process starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from subterra_api.job_contract.environment import (
    BUDGET_VARIABLE,
    CONCURRENCY_VARIABLE,
    ENDPOINTS_VARIABLE,
    GATE_VARIABLE,
    GPUS_VARIABLE,
    HUB_ENDPOINT_VARIABLE,
    HUB_TOKEN_VARIABLE,
    JUDGING_VARIABLE,
    KEY_VARIABLES,
    LOCAL_VLLM_URL,
    MODEL_SWITCH_VARIABLE,
    MODELS_DIRECTORY,
    MODELS_VARIABLE,
    PRICES_VARIABLE,
    RANKS_VARIABLE,
    RAY_ADDRESS_VARIABLE,
    RAY_DASHBOARD_VARIABLE,
    RAY_GCS_PORT,
    REFERENCES_VARIABLE,
    SERVING_ARGS_VARIABLE,
    TERMINATION_LOG,
    TERMINATION_LOG_VARIABLE,
    VLLM_VARIABLE,
    WORKERS_VARIABLE,
)
from subterra_api.job_contract.messages import Budget, Gate
from subterra_api.v1alpha1.judging import JudgingSettings
from subterra_core.pricing import TokenPrice, parse_prices
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.pod_group import ALONE, PodGroup

CONCURRENCY = 32
"""Conversations at a time on CPUs: a processor multiplies for 32 tokens in twice the time that it needs for 8."""
Value = TypeVar("Value")
_URLS = TypeAdapter(tuple[str, ...])
_SHOWN_LENGTH = 200


def current_date() -> date:
    """Today in UTC."""
    return datetime.now(UTC).date()


def _today() -> date:
    """`current_date()`, looked up at each call, so that a test's date counts here too."""
    return current_date()


@dataclass(frozen=True)
class StageEnvironment:
    """What the pod tells a stage beyond its input file. An unset or empty variable leaves the default."""

    budget: Budget = field(default_factory=Budget)
    gate: Gate = field(default_factory=Gate)
    judging: JudgingSettings = field(default_factory=JudgingSettings)
    prices: Mapping[str, TokenPrice] = field(default_factory=dict)
    """The administrator's prices by model; they override list prices."""
    endpoints: tuple[str, ...] = ()
    """Base URLs of OpenAI-compatible servers that the administrator allows."""
    vllm_url: str = LOCAL_VLLM_URL
    reference_urls: tuple[str, ...] = ()
    """Servers of the input's references, in their order."""
    model_switch: Path | None = None
    """File that names the model to serve, where candidate and references are served one after another."""
    serving_args: tuple[str, ...] = ()
    """Arguments of the models' servers that change replies."""
    concurrency: int = CONCURRENCY
    """Conversations in progress per arm of an evaluation."""
    workers: int | None = None
    """Processes that write conversations; `None` for the stage's default."""
    ray_address: str | None = None
    """HOST:PORT of the Ray cluster over whose pods they are spread; `None` for a Ray of the pod's own."""
    group: PodGroup = ALONE
    """The pods that train together."""
    ranks: int | None = None
    """Ranks of a training, of all pods; `None` for those of the run's input."""
    gpus: int = 0
    """GPUs that the pod asks for and a training must have."""
    models: Path = Path(MODELS_DIRECTORY)
    """Directory of the models that come with the image."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """API keys by provider. A line break at the end, as many files have it, is no part of a key."""
    hub_token: str = field(default="", repr=False)
    """Token for the hub of base models."""
    hub_endpoint: str | None = None
    """Address of the hub of base models; `None` for the public one."""
    today: date = field(default_factory=_today)
    """Hosted models that have retired by this day are refused."""

    @classmethod
    def parse(cls, variables: Mapping[str, str]) -> Self:
        """Reads all variables. Raises InvalidInputError that names the variable, its value and the fix."""
        return cls(
            budget=_parse(variables, BUDGET_VARIABLE, Budget.model_validate_json, "{}", 'JSON such as {"maxUSD": "20"}'),
            gate=_parse(variables, GATE_VARIABLE, Gate.model_validate_json, "{}", 'JSON such as {"attempt": 1}'),
            judging=_parse(
                variables, JUDGING_VARIABLE, JudgingSettings.model_validate_json, "{}", 'JSON such as {"mode": "Batch"}'
            ),
            prices=_parse(variables, PRICES_VARIABLE, parse_prices, "{}", _PRICES_EXAMPLE),
            endpoints=_parse(variables, ENDPOINTS_VARIABLE, _URLS.validate_json, "[]", _URLS_EXAMPLE),
            vllm_url=variables.get(VLLM_VARIABLE) or LOCAL_VLLM_URL,
            reference_urls=_parse(variables, REFERENCES_VARIABLE, _URLS.validate_json, "[]", _URLS_EXAMPLE),
            model_switch=Path(variables[MODEL_SWITCH_VARIABLE]) if variables.get(MODEL_SWITCH_VARIABLE) else None,
            serving_args=_parse(variables, SERVING_ARGS_VARIABLE, _URLS.validate_json, "[]", 'JSON such as ["--seed=1"]'),
            concurrency=_parse(variables, CONCURRENCY_VARIABLE, _positive, "", _COUNT_EXAMPLE) or CONCURRENCY,
            workers=_parse(variables, WORKERS_VARIABLE, _positive, "", _COUNT_EXAMPLE),
            ray_address=_ray_address(variables),
            group=PodGroup.parse(variables),
            ranks=_parse(variables, RANKS_VARIABLE, _positive, "", _COUNT_EXAMPLE),
            gpus=_parse(variables, GPUS_VARIABLE, _positive, "", _COUNT_EXAMPLE) or 0,
            models=Path(variables.get(MODELS_VARIABLE) or MODELS_DIRECTORY),
            keys={provider: variables.get(name, "").strip() for provider, name in KEY_VARIABLES.items()},
            hub_token=variables.get(HUB_TOKEN_VARIABLE, "").strip(),
            hub_endpoint=variables.get(HUB_ENDPOINT_VARIABLE) or None,
            today=current_date(),
        )


def termination_log(variables: Mapping[str, str]) -> Path:
    """File for the termination message; separate from `StageEnvironment`, because it also reports why parsing that failed."""
    return Path(variables.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG))


_PRICES_EXAMPLE = 'JSON such as {"gpt-6-luna": {"input": "0.1", "output": "0.5"}}'
_URLS_EXAMPLE = 'a JSON list of URLs such as ["http://10.0.0.1:8000"]'
_COUNT_EXAMPLE = "a whole number above 0, or leave it unset"


def _parse(variables: Mapping[str, str], name: str, read: Callable[[str], Value], default: str, example: str) -> Value:
    value = variables.get(name) or default
    try:
        return read(value)
    except ValueError as error:
        raise InvalidInputError(f"{name} is {value[:_SHOWN_LENGTH]!r}{_reason(error)}; set {example}") from None


def _ray_address(variables: Mapping[str, str]) -> str | None:
    """Ray's own variable, else the head whose dashboard KubeRay names."""
    if address := variables.get(RAY_ADDRESS_VARIABLE):
        return address
    host = variables.get(RAY_DASHBOARD_VARIABLE, "").removeprefix("http://").partition(":")[0]
    return f"{host}:{RAY_GCS_PORT}" if host else None


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False, include_context=False)[0]
    return f" ({': '.join(filter(None, ('.'.join(map(str, first['loc'])), first['msg'])))})"


def _positive(value: str) -> int | None:
    if not value:
        return None
    if not value.isdecimal() or not int(value):
        raise ValueError(value)
    return int(value)
