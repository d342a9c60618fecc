"""Runs of an evaluation with the paper's arms: with stand-ins, or with the hosted models of an agent file. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity, RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec

Json = dict[str, Any]
SONNET = {"name": "anthropic", "model": "claude-sonnet-5-5"}
SECOND = {"name": "openai", "model": "gpt-6-luna"}
BASE = "Qwen/Qwen2.5-3B-Instruct"
SEED = 7


class PlanError(Exception):
    """The arguments do not fit; the message says how to change them."""


@dataclass(frozen=True)
class Servers:
    """Addresses of the candidate and, if it takes part, of the base model itself behind an OpenAI-compatible API."""

    candidate: str
    same_model: str | None = None


def stand_in_evaluation(hosted: str, scenarios: int) -> Json:
    """Evaluation settings with the paper's arms, all hosted models at one address."""
    models = {"simulator": SONNET, "judge": SONNET, "secondJudge": SECOND | {"baseURL": f"{hosted}/v1"}}
    return _with_baselines(models | {"scenarios": scenarios}, BASE, f"{hosted}/v1")


def agent_evaluation(agent: Json, same_model: str | None, scenarios: int | None) -> Json:
    """Evaluation settings of an agent file's run, with the paper's baselines unless it names some. Raises PlanError."""
    template = agent["spec"].get("compile", {}).get("template", {})
    settings = dict(template.get("evaluation", {}))
    if settings.get("simulator", {}).get("name", "scripted") == "scripted":
        raise PlanError(
            "evaluation.simulator of the agent file is scripted; name a hosted model, as examples/models/agent.yaml does"
        )
    settings |= {} if scenarios is None else {"scenarios": scenarios}
    return settings if settings.get("baselines") else _with_baselines(settings, base_model(agent), same_model)


def base_model(agent: Json) -> str:
    """Name of the base model that an agent file is trained from."""
    uri = str(agent["spec"].get("compile", {}).get("template", {}).get("baseModel", {}).get("uri", f"hf://{BASE}"))
    return uri.partition("://")[2] or uri


def _with_baselines(settings: Json, base: str, same_model: str | None) -> Json:
    """The same model that plays customers in context and behind an orchestrator, and the base model in context if it is served."""
    frontier = settings["simulator"]
    found = [{"kind": "InContext", "provider": frontier}, {"kind": "Orchestrator", "provider": frontier}]
    if same_model:
        found.append({"kind": "InContext", "provider": {"name": "openai", "model": base, "baseURL": same_model}})
    return settings | {"baselines": found}


def planned_run(spec: ProcedureSpec, evaluation: Json, base: str, store: Path, seed: int | None) -> RunInput:
    """The run of an evaluation, with its artifacts in a folder."""
    evaluation = evaluation | {"seed": evaluation.get("seed", SEED) if seed is None else seed}
    inputs = CompileInputs.model_validate(
        {"procedureRef": {"name": "paper"}, "baseModel": {"uri": f"hf://{base}"}, "evaluation": evaluation}
    )
    identity = RunIdentity(name="paper", namespace="bench", uid="paper", agent="paper")
    return resolve(inputs, spec, procedure_digest(spec), identity, store=store.absolute().as_uri())
