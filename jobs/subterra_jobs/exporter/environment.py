"""The exporter's environment variables, parsed once when it starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Self

from subterra_api.job_contract.environment import (
    EXPORTER_PORT,
    EXPORTER_PORT_VARIABLE,
    LOCAL_VLLM_URL,
    MODEL_DIGEST_VARIABLE,
    SERVED_VARIABLE,
    TURNS_VARIABLE,
    USD_PER_HOUR_VARIABLE,
    VLLM_VARIABLE,
)
from subterra_jobs.errors import InvalidInputError

_MAX_PORT = 65535


@dataclass(frozen=True)
class ExporterEnvironment:
    """What the pod tells the exporter."""

    usd_per_hour: Decimal
    turns_per_conversation: float
    model_digest: str
    vllm_url: str
    port: int
    served: Path | None = None
    """Folder that a monitor shares; `None` in pods without one."""

    @classmethod
    def parse(cls, variables: Mapping[str, str]) -> Self:
        """Reads all variables. Raises InvalidInputError that names the variable, its value and the fix."""
        return cls(
            usd_per_hour=_usd(variables.get(USD_PER_HOUR_VARIABLE, "")),
            turns_per_conversation=_turns(variables.get(TURNS_VARIABLE, "")),
            model_digest=variables.get(MODEL_DIGEST_VARIABLE, ""),
            vllm_url=variables.get(VLLM_VARIABLE) or LOCAL_VLLM_URL,
            port=_port(variables.get(EXPORTER_PORT_VARIABLE) or str(EXPORTER_PORT)),
            served=Path(variables[SERVED_VARIABLE]) if variables.get(SERVED_VARIABLE) else None,
        )


def _usd(value: str) -> Decimal:
    try:
        usd = Decimal(value)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0:
        raise InvalidInputError(f"{USD_PER_HOUR_VARIABLE} is {value!r}; set dollars such as 2.50")
    return usd


def _turns(value: str) -> float:
    try:
        turns = float(value)
    except ValueError:
        turns = 0.0
    if not 0 < turns < float("inf"):
        raise InvalidInputError(f"{TURNS_VARIABLE} is {value!r}; set a number above 0")
    return turns


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) <= _MAX_PORT:
        raise InvalidInputError(f"{EXPORTER_PORT_VARIABLE} is {value!r}; set a port from 1 to {_MAX_PORT}")
    return int(value)
