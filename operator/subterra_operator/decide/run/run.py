"""A CompileRun: freeze the input, run the stages one after another, judge what they found."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import STAGES
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.job_contract.messages import RunIdentity, RunInput
from subterra_api.v1alpha1.compilerun import Artifacts, CompileRunSpec, CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Verdict
from subterra_core.gate.verdict import judge
from subterra_core.provider_rules import refusals
from subterra_operator.decide.decision import Decision, Write, soonest, wire
from subterra_operator.decide.procedure import analysed, explain
from subterra_operator.decide.run.stage import Stages, Step, take_step
from subterra_operator.decide.run.status import Outcome, conditions, phase, progress, total
from subterra_operator.labels import AGENT_LABEL, BANNER, DIGEST, RETRY_AT, SUPERSEDED_BY, annotations, labels
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot, Seen
from subterra_operator.specs.network_policy import policies
from subterra_operator.specs.provider_env import unreachable
from subterra_operator.specs.run_input import input_map, keys_of
from subterra_operator.specs.volume_claim import store_claim


@dataclass(frozen=True)
class _Frozen:
    """The input of a run, or why there is none."""

    input: Seen | None = None
    writes: tuple[Write, ...] = ()
    problem: tuple[Reason, str] | None = None


def decide_run(snapshot: RunSnapshot, settings: Settings, now: datetime) -> Decision:
    """Jobs to create, and the status."""
    run = snapshot.run
    before = CompileRunStatus.model_validate(run.get("status") or {})
    retry_at = annotations(run).get(RETRY_AT)
    before = before.model_copy(update={"retry_at": retry_at, "observed_generation": run["metadata"].get("generation", 0)})
    retry = retry_at is not None and retry_at != (run.get("status") or {}).get("retryAt")
    try:
        spec = CompileRunSpec.model_validate(run["spec"])
    except ValidationError as error:
        return _told(run, before, Outcome(problem=(Reason.INVALID_SPEC, explain(error))), now)
    frozen = _freeze(snapshot, spec, settings)
    if frozen.input is None:
        suspension = _suspension(run, spec)
        problem = None if suspension else frozen.problem
        return _told(run, before, Outcome(problem=problem, suspended=suspension), now)
    recorded: dict[str, StageStatus] = {stage.name: stage for stage in before.stages}
    stages = Stages(snapshot, spec, recorded, keys_of(frozen.input), settings, now, retry)
    return _carried_on(stages, before, frozen, spec)


def _carried_on(stages: Stages, before: CompileRunStatus, frozen: _Frozen, spec: CompileRunSpec) -> Decision:
    """The stages up to the first that is not done, then the gate."""
    steps = _steps(stages)
    run, now = stages.snapshot.run, stages.now
    found = before.model_copy(update=_record(before, steps, frozen.input or {}))
    verdict = _verdict(found, spec) if _done(steps) else None
    gate = StageStatus(name="gate", state="Succeeded" if verdict else "Pending", percent=100 if verdict else 0,
                       message="; ".join(verdict.reasons) if verdict else None)  # fmt: skip
    found = found.model_copy(update={"verdict": verdict, "stages": (*(step.status for step in steps), gate)})
    blocked = (Reason.NAME_TAKEN, stages.snapshot.blocked) if stages.snapshot.blocked else None
    decision = _told(run, found, Outcome(problem=blocked, suspended=_suspension(run, spec)), now)
    created = tuple(write for step in steps for write in step.writes)
    ground = _ground(run, stages.settings) if any(write.how == "create" for write in created) else ()
    return replace(
        decision, writes=(*frozen.writes, *ground, *created), recheck_after=soonest(step.recheck_after for step in steps)
    )


def _verdict(found: CompileRunStatus, spec: CompileRunSpec) -> Verdict | None:
    """The gate's decision under today's policy; scores of a version that kept no statistics cannot be judged anew."""
    if found.scores is None or found.scores.statistics is None:
        return found.verdict
    return judge(found.scores, spec.execution.gate, spec.attempt)


def _steps(stages: Stages) -> list[Step]:
    steps: list[Step] = []
    for name in STAGES:
        if all(step.status.state == "Succeeded" for step in steps):
            steps.append(take_step(stages, name))
        else:
            steps.append(Step(stages.recorded.get(name) or StageStatus(name=name)))
    return steps


def _done(steps: list[Step]) -> bool:
    return all(step.status.state == "Succeeded" for step in steps)


def _record(before: CompileRunStatus, steps: list[Step], frozen: Seen) -> dict[str, object]:
    """What the stages' results say, added to what is known. A result is heard once and then only remembered."""
    artifacts: dict[str, str] = {}
    update: dict[str, object] = {
        "procedure_digest": annotations(frozen)[DIGEST],
        "banner": annotations(frozen).get(BANNER),
        "usd": total([step.status for step in steps]),
    }
    kinds = {"generate": "dataset", "train": "model", "evaluate": "report"}
    for step in steps:
        if (result := step.result) is not None:
            artifacts |= {kinds[result.stage]: result.digest, f"{kinds[result.stage]}_path": result.path}
            if result.scores is not None:
                update["scores"] = result.scores
    return update | {"artifacts": Artifacts(**{**dict(before.artifacts), **artifacts})}


def _ground(run: Seen, settings: Settings) -> tuple[Write, ...]:
    """What every Job stands on: the store and the network's rules."""
    namespace = run["metadata"]["namespace"]
    rules = tuple(Write("apply", policy) for policy in policies(namespace, settings))
    return (Write("create", store_claim(namespace, settings)), *rules)


def _freeze(snapshot: RunSnapshot, spec: CompileRunSpec, settings: Settings) -> _Frozen:
    """The frozen input: the one that exists, else a new one, if the procedure still is what the run was made for."""
    if snapshot.input is not None:
        return _Frozen(snapshot.input)
    if spec.execution.suspend:
        return _Frozen()
    name = spec.inputs.procedure_ref.name
    if snapshot.procedure is None:
        return _Frozen(problem=(Reason.PROCEDURE_NOT_FOUND, f"there is no Procedure {name} in this namespace; create it"))
    try:
        procedure = ProcedureSpec.model_validate(snapshot.procedure["spec"])
    except ValidationError as error:
        return _Frozen(problem=(Reason.INVALID_PROCEDURE, f"Procedure {name}: {explain(error)}"))
    if problem := _refusal(name, procedure, spec, settings):
        return _Frozen(problem=problem)
    frozen = input_map(snapshot.run, _resolved(snapshot.run, spec, procedure))
    return _Frozen(frozen, (Write("create", frozen, guard=snapshot.procedure),))


def _refusal(name: str, procedure: ProcedureSpec, spec: CompileRunSpec, settings: Settings) -> tuple[Reason, str] | None:
    """Why nothing may be spent on this run."""
    if errors := analysed(procedure).errors:
        return Reason.INVALID_PROCEDURE, f"Procedure {name} has errors: {'; '.join(str(error) for error in errors)}"
    wanted = spec.inputs.procedure_digest
    if wanted is not None and wanted != procedure_digest(procedure):
        text = f"Procedure {name} was edited after this run was made; nothing was spent; make a run for the new version"
        return Reason.PROCEDURE_CHANGED, text
    if misfits := [*refusals(spec.inputs), *unreachable(spec.inputs, spec.execution, settings)]:
        return Reason.INVALID_SPEC, "; ".join(misfits)
    return None


def _resolved(run: Seen, spec: CompileRunSpec, procedure: ProcedureSpec) -> RunInput:
    metadata = run["metadata"]
    identity = RunIdentity(
        name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"], agent=labels(run).get(AGENT_LABEL)
    )
    return resolve(
        spec.inputs, procedure, procedure_digest(procedure), identity, store=f"file://{STORE_MOUNT}",
        ranks=spec.execution.train.ranks or 1, references=spec.references,
    )  # fmt: skip


def _suspension(run: Seen, spec: CompileRunSpec) -> tuple[Reason, str] | None:
    if not spec.execution.suspend:
        return None
    if wanted := annotations(run).get(SUPERSEDED_BY):
        return Reason.SUPERSEDED, f"{wanted} is wanted instead; what is done is kept, and a return to these inputs resumes it"
    return Reason.SUSPENDED, "suspended; set spec.execution.suspend to false to go on"


def _told(run: Seen, status: CompileRunStatus, outcome: Outcome, now: datetime) -> Decision:
    """The decision to do nothing but tell."""
    previous: Mapping[str, object] = run.get("status") or {}
    told = conditions(status, outcome, CompileRunStatus.model_validate(previous).conditions, now)
    final: Object = wire(status.model_copy(update={"conditions": told, "phase": phase(told), "progress": progress(status.stages)}))
    return Decision(status=final)
