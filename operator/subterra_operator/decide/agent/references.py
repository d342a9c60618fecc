"""What a new run is compared with, and which attempt at its procedure it is: decided once, when its agent creates it."""

from collections.abc import Collection, Iterable
from typing import Literal

from subterra_api.v1alpha1.compiledagent import AgentVersion
from subterra_api.v1alpha1.compilerun import BaseModelSource, CompileInputs, Reference
from subterra_operator.decide.agent.run_history import run_that_made, status_of
from subterra_operator.resources import Object
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.vllm_container import model_of

Role = Literal["Serving", "Anchor"]


def references(
    snapshot: AgentSnapshot, serving: AgentVersion | None, anchor: str | None, first: str | None = None
) -> tuple[Reference, ...]:
    """The serving version, if this agent compiled it, and the anchor, if it is another model; each with the run that made it.

    Without an `anchor` it is the `first` model that served, of which only conversations in the store are compared.
    """
    serving_run, digest = snapshot.run(serving.run) if serving else None, anchor or first
    anchor_run = run_that_made(snapshot.runs, digest) if digest else None
    result = [_reference("Serving", serving_run, serving.model_digest, serving.model_path)] if serving_run and serving else []
    if anchor_run and digest and all(reference.model_digest != digest for reference in result):
        path = status_of(anchor_run).artifacts.model_path or ""
        result.append(_reference("Anchor", anchor_run, digest, path, stored=anchor is None))
    return tuple(result)


def _reference(role: Role, run: Observed, digest: str, path: str, *, stored: bool = False) -> Reference:
    inputs = CompileInputs.model_validate(run["spec"]["inputs"])
    return Reference(
        role=role,
        run=run["metadata"]["name"],
        model_digest=digest,
        model_path=path,
        base_model=BaseModelSource(uri=inputs.base_model.uri),
        max_length=model_of(inputs, path, role).max_length,
        **({"stored": True} if stored else {}),
        **({"tools": True} if status_of(run).tools else {}),
    )


def next_attempt(runs: Iterable[Observed], procedure_digest: str, served: Collection[str] = ()) -> int:
    """One more than the highest attempt among the agent's runs of this procedure, whatever their settings or seed.

    Only runs with scores count, since no other could have been promoted by chance, and only those after the last promotion: from
    then on candidates are compared with another version. `served` names the runs whose models have served.
    """
    known = [*runs]
    promoted = max((_created(run) for run in known if run["metadata"]["name"] in served), default="")
    tried = (
        run["spec"].get("attempt", 1)
        for run in known
        if run["spec"]["inputs"].get("procedureDigest") == procedure_digest
        and run["metadata"]["name"] not in served
        and _created(run) >= promoted
        and status_of(run).scores is not None
    )
    return 1 + max(tried, default=0)


def _created(run: Observed) -> str:
    return str(run["metadata"]["creationTimestamp"])


def existing_origin(run: Observed) -> Object:
    """What was decided when a run was created: applying it again changes none of it.

    So it keeps its inputs as they were first written: a default that is spelled out since, or a Procedure of another name with the
    same contents, wants the same run.
    """
    return {name: run["spec"][name] for name in ("inputs", "references", "attempt") if name in run["spec"]}


def new_run_origin(references: tuple[Reference, ...], attempt: int) -> Object:
    """References and attempt for a run that is about to be created; defaults are left out."""
    origin: Object = {"references": [reference.dump() for reference in references]} if references else {}
    return origin | ({"attempt": attempt} if attempt > 1 else {})
