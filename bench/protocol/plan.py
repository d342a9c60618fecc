"""The protocols, and the settings of chart and agent for them. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
SECRET = "hosted-models"  # noqa: S105
SONNET = {"name": "anthropic", "model": "claude-sonnet-5-5"}
OWN = "Qwen/Qwen2.5-3B-Instruct"
BUDGET = {"maxUSDPerRun": "500"}
"""Dollars are booked at list prices; nothing is really paid."""


@dataclass(frozen=True)
class Endpoints:
    """URLs of the stand-ins: of the hosted models with both APIs, and of a self-hosted model, which is free."""

    hosted: str
    own: str

    @property
    def listed(self) -> list[Json]:
        """As the chart's `openai.endpoints`."""
        return [{"baseURL": f"{self.hosted}/v1"}, {"baseURL": f"{self.own}/v1", "free": True}]


@dataclass(frozen=True)
class Protocol:
    """An evaluation: its name, the agent's `evaluation` settings, and the expected result."""

    name: str
    evaluation: Callable[[Endpoints], Json]
    scenarios: int
    arms: tuple[str, ...]


def _judged(at: Endpoints) -> Json:
    """A model as customer, and two judges of different model families."""
    second = {"name": "openai", "model": "gpt-6-luna", "baseURL": f"{at.hosted}/v1"}
    return {"simulator": SONNET, "judge": SONNET, "secondJudge": second}


def _paper(at: Endpoints) -> Json:
    """The paper's three baselines: in context, orchestrated, orchestrated with the base model itself."""
    same = {"name": "openai", "model": OWN, "baseURL": f"{at.own}/v1"}
    kinds = (("InContext", SONNET), ("Orchestrator", SONNET), ("Orchestrator", same))
    return _judged(at) | {"scenarios": 200, "baselines": [{"kind": kind, "provider": model} for kind, model in kinds]}


SERVED = ("candidate", "serving")
BASELINES = tuple(
    f"{kind} {model}"
    for kind, model in (
        ("in-context", SONNET["model"]),
        ("orchestrator", SONNET["model"]),
        ("orchestrator", OWN),
    )
)
PROTOCOLS = {
    each.name: each
    for each in (
        Protocol("paper", _paper, 200, (*SERVED, *BASELINES)),
        Protocol("gate", _judged, 300, SERVED),
    )
}


def agent_spec(spec: Json, evaluation: Json, seed: int | None) -> Json:
    """The agent's spec with this evaluation, API keys and a cap; generation and training stay."""
    template = spec["compile"].get("template", {})
    keys = {name: {"name": SECRET, "key": name} for name in ("anthropic", "openai")}
    changed = template | {
        "evaluation": evaluation | ({} if seed is None else {"seed": seed}),
        "execution": template.get("execution", {}) | {"apiKeySecrets": keys},
    }
    return spec | {"compile": spec["compile"] | {"template": changed}, "budget": BUDGET}


def helm_values(at: Endpoints) -> list[str]:
    """Arguments of `helm upgrade` that allow the stand-ins' endpoints."""
    return [f"--set=anthropic.baseURL={at.hosted}", f"--set-json=openai.endpoints={json.dumps(at.listed)}"]
