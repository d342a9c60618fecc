"""What a new run is compared with, and which attempt at its procedure it is: decided once, when its agent makes it."""

from collections.abc import Iterable
from typing import Literal

from subterra_api.v1alpha1.compiledagent import AgentVersion
from subterra_api.v1alpha1.compilerun import BaseModelSource, CompileRunSpec, Reference
from subterra_operator.decide.agent.run_history import made, status_of
from subterra_operator.resources import Object
from subterra_operator.snapshot import AgentSnapshot, Seen
from subterra_operator.specs.vllm_container import model_of

Role = Literal["Serving", "Anchor"]


def references(snapshot: AgentSnapshot, serving: AgentVersion | None, anchor: str | None) -> tuple[Reference, ...]:
    """What has traffic, if this agent compiled it, and the anchor, if that is another model. Both are known by their runs."""
    served = snapshot.run(serving.run) if serving else None
    pinned = made(snapshot.runs, anchor) if anchor else None
    found = [_reference("Serving", served, serving.model_digest, serving.model_path)] if served and serving else []
    if pinned and anchor and all(each.model_digest != anchor for each in found):
        found.append(_reference("Anchor", pinned, anchor, status_of(pinned).artifacts.model_path or ""))
    return tuple(found)


def _reference(role: Role, run: Seen, digest: str, path: str) -> Reference:
    inputs = CompileRunSpec.model_validate(run["spec"]).inputs
    base = BaseModelSource(uri=inputs.base_model.uri)
    return Reference(
        role=role, run=run["metadata"]["name"], model_digest=digest, model_path=path, base_model=base,
        max_length=model_of(inputs, path, role).max_length,
    )  # fmt: skip


def attempt(runs: Iterable[Seen], procedure_digest: str) -> int:
    """One more than the agent's runs of this procedure have had; other settings or another seed do not begin anew."""
    specs = (run["spec"] for run in runs)
    taken = (spec.get("attempt", 1) for spec in specs if spec["inputs"].get("procedureDigest") == procedure_digest)
    return 1 + max(taken, default=0)


def kept(run: Seen) -> Object:
    """What a run was compared with and counted as when it was made; an agent that applies it again changes neither."""
    return {name: run["spec"][name] for name in ("references", "attempt") if name in run["spec"]}


def begun(references: tuple[Reference, ...], attempt: int) -> Object:
    """The same for a run that is about to be made; defaults are left out."""
    told: Object = {"references": [each.dump() for each in references]} if references else {}
    return told | ({"attempt": attempt} if attempt > 1 else {})
