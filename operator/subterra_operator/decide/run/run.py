"""A CompileRun: freeze its input, run the stages one after another, judge the evaluation."""

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import STAGES, Stage
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import Artifacts, CompileInputs, CompileRunSpec, CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Verdict
from subterra_core.gate.verdict import FORMAT, judge
from subterra_core.model_retirements import retired_models
from subterra_core.node_pools import default_ranks, node_count
from subterra_core.provider_rules import provider_conflicts, tool_conflicts
from subterra_operator.decide.decision import ConditionBuilder, Decision, Write, earliest, to_json
from subterra_operator.decide.procedure_check import checked, describe_errors, flat_procedure
from subterra_operator.decide.retiring_models import retirement_condition
from subterra_operator.decide.retry import retry_request
from subterra_operator.decide.run.attempt_labels import is_attach
from subterra_operator.decide.run.stage import RunContext, StageStep, next_step
from subterra_operator.decide.run.status import Blockers, conditions, phase, progress, total_usd
from subterra_operator.decide.unrunnable import stage_problems
from subterra_operator.labels import (
    ARTIFACT_KEYS,
    BANNER,
    PROCEDURE_DIGEST,
    STAGE_LABEL,
    SUPERSEDED_BY,
    TOOLS,
    annotation,
    annotations_of,
    labels_of,
)
from subterra_operator.resources import key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import Observed, RunSnapshot
from subterra_operator.specs.run_input import identity_of, input_config_map, input_name, keys_of_run
from subterra_operator.specs.stage_env.provider_env import unreachable_models
from subterra_operator.specs.stage_job import effective_pod
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_operator.specs.volume_claim import store_claim

RETIREMENT_EFFECT = "a stage that calls it fails from that day on"
_CREATE_ANOTHER = "create a run for the new version"


@dataclass(frozen=True)
class _FrozenInput:
    """The input of a run, or why there is none."""

    input: Observed | None = None
    writes: tuple[Write, ...] = ()
    problem: tuple[Reason, str] | None = None


def decide_run(snapshot: RunSnapshot, settings: Settings, now: datetime) -> Decision:
    """The Jobs to create, and the status."""
    run = snapshot.run
    before = CompileRunStatus.model_validate(run.get("status") or {})
    retry = retry_request(run, before.retry_at)
    seen = before.retry_at if snapshot.refusal else retry.seen  # a refused retry is not done with
    before = before.model_copy(update={"retry_at": seen, "observed_generation": run["metadata"].get("generation", 0)})
    try:
        spec = CompileRunSpec.model_validate(run["spec"])
    except ValidationError as error:
        return _status_only(before, Blockers(problem=(Reason.INVALID_SPEC, describe_errors(error))), now)
    frozen = (_input_of_another if spec.reevaluates else _freeze_input)(snapshot, spec, settings, now)
    if frozen.input is None and before.verdict is not None:
        return _judged_again(run, spec, before, now)
    if frozen.input is None:
        suspended = _suspension_reason(run, spec)
        problem = None if suspended else frozen.problem
        return _status_only(before, Blockers(problem=problem, suspended=suspended), now)
    if changed := _changed_input(frozen.input):
        return _status_only(before, Blockers(problem=(Reason.NAME_TAKEN, changed)), now)
    recorded: dict[str, StageStatus] = {stage.name: stage for stage in before.stages}
    tools = TOOLS in annotations_of(frozen.input)
    keys = keys_of_run(spec, frozen.input)
    context = RunContext(snapshot, spec, recorded, keys, settings, now, retry.new is not None, tools)
    return _run_stages(context, before, frozen)


def _changed_input(frozen: Observed) -> str:
    """What somebody took away from a frozen input, without which no stage can be followed; empty if nothing."""
    key, missing = key_of(frozen), [name for name in (ARTIFACT_KEYS, PROCEDURE_DIGEST) if name not in annotations_of(frozen)]
    fix = f"delete it, and it is made again: kubectl -n {key.namespace} delete configmap {key.name}"
    return f"{key} was changed: its annotation {' and '.join(missing)} is missing; {fix}" if missing else ""


def _judged_again(run: Observed, spec: CompileRunSpec, before: CompileRunStatus, now: datetime) -> Decision:
    """The decision on a run that ended before its input was deleted, which only its stages needed: the policy may have changed."""
    verdict = _verdict(before, spec, same_spec=_is_same_spec(run))
    stages = tuple(_gate_stage(verdict) if stage.name == "gate" else stage for stage in before.stages)
    return _status_only(before.model_copy(update={"verdict": verdict, "stages": stages}), Blockers(), now)


def _run_stages(context: RunContext, before: CompileRunStatus, frozen: _FrozenInput) -> Decision:
    """The stages up to the first that is not done, then the gate."""
    run, spec, refusal = context.snapshot.run, context.spec, context.snapshot.refusal
    steps = _steps(context)
    problem = (refusal.reason, refusal.message) if refusal else _unrunnable(steps, context)
    blockers = Blockers(problem=problem, suspended=_suspension_reason(run, spec))
    if refusal and frozen.writes:
        return _status_only(before, blockers, context.now)
    if problem:
        steps = [_unwritten(step, context) for step in steps]
        before = before.model_copy(update={"retry_at": (run.get("status") or {}).get("retryAt")})  # a retry is not done with
    status = before.model_copy(update=_recorded_results(before, steps, frozen.input or {}))
    verdict = _verdict(status, spec, same_spec=_is_same_spec(run)) if _all_succeeded(steps) else None
    stages = (*(step.status for step in steps), _gate_stage(verdict))
    status = status.model_copy(update={"verdict": verdict, "stages": stages})
    decision = _status_only(status, blockers, context.now, spec.inputs)
    stage_writes = tuple(write for step in steps for write in step.writes)
    needed = any(write.verb == "create" for write in stage_writes) or any(step.claim_missing for step in steps)
    shared = _namespace_objects(run, context.settings) if needed else ()
    deletes = tuple(obj for step in steps for obj in step.deletes)
    recheck = earliest(step.recheck_after for step in steps)
    lookups = tuple(key for step in steps for key in step.lookups)
    writes = (*frozen.writes, *shared, *stage_writes)
    return replace(decision, writes=writes, deletes=deletes, recheck_after=recheck, lookups=lookups)


def _unrunnable(steps: list[StageStep], context: RunContext) -> tuple[Reason, str] | None:
    """Why a stage that is about to start cannot run: settings of run or chart may have changed since the input was frozen."""
    created = (write.object for step in steps for write in step.writes if write.verb == "create")
    starting = {labels_of(job)[STAGE_LABEL] for job in created if not is_attach(job)}
    job_sets = context.snapshot.job_sets
    found = (stage_problems(stage, context.spec, context.settings, job_sets=job_sets) for stage in STAGES if stage in starting)
    problems = [problem for each in found for problem in each]
    return (Reason.INVALID_SPEC, "; ".join(problems)) if problems else None


def _unwritten(step: StageStep, context: RunContext) -> StageStep:
    """The step without what it wanted to write: the stage is as it was recorded."""
    name = step.status.name
    return StageStep(context.recorded.get(name) or StageStatus(name=name)) if step.writes else step


def _gate_stage(verdict: Verdict | None) -> StageStatus:
    if verdict is None:
        return StageStatus(name="gate", state="Pending", percent=0)
    return StageStatus(name="gate", state="Succeeded", percent=100, message="; ".join(verdict.reasons))


def _is_same_spec(run: Observed) -> bool:
    """Whether the recorded status, and so its verdict, is of this spec."""
    return bool((run.get("status") or {}).get("observedGeneration") == run["metadata"].get("generation", 0))


def _verdict(status: CompileRunStatus, spec: CompileRunSpec, *, same_spec: bool) -> Verdict | None:
    """The verdict under the current policy; scores of a release that kept no statistics cannot be judged again.

    Scores of an earlier release keep the verdict they got until the policy changes: its rules may have been others.
    """
    if status.scores is None or status.scores.statistics is None:
        return status.verdict
    if same_spec and status.verdict is not None and status.scores.statistics.format < FORMAT:
        return status.verdict
    return judge(status.scores, spec.execution.gate, spec.attempt)


def _steps(context: RunContext) -> list[StageStep]:
    steps: list[StageStep] = []
    for name in _stages_of(context.spec):
        if _all_succeeded(steps):
            steps.append(next_step(context, name))
        else:
            steps.append(StageStep(context.recorded.get(name) or StageStatus(name=name)))
    return steps


def _stages_of(spec: CompileRunSpec) -> tuple[Stage, ...]:
    """The stages that work before the gate."""
    return ("evaluate",) if spec.reevaluates else STAGES


def _all_succeeded(steps: list[StageStep]) -> bool:
    return all(step.status.state == "Succeeded" for step in steps)


def _recorded_results(before: CompileRunStatus, steps: list[StageStep], frozen: Observed) -> dict[str, object]:
    """Status fields from the stages' results. A result is read once and kept in the status from then on."""
    artifacts: dict[str, str] = {}
    update: dict[str, object] = {
        "procedure_digest": annotations_of(frozen)[PROCEDURE_DIGEST],
        "banner": annotations_of(frozen).get(BANNER),
        "tools": TOOLS in annotations_of(frozen) or None,
        "usd": total_usd([step.status for step in steps]),
    }
    kinds = {"generate": "dataset", "train": "model", "evaluate": "report"}
    for step in steps:
        if (result := step.result) is not None:
            artifacts |= {kinds[result.stage]: result.digest, f"{kinds[result.stage]}_path": result.path}
            if result.scores is not None:
                update["scores"] = result.scores
    return update | {"artifacts": Artifacts(**{**dict(before.artifacts), **artifacts})}


def _namespace_objects(run: Observed, settings: Settings) -> tuple[Write, ...]:
    """What every Job needs in its namespace: the store's claim and the network policies."""
    namespace = run["metadata"]["namespace"]
    rules = tuple(Write("apply", policy) for policy in network_policies(namespace, settings))
    return (Write("create", store_claim(namespace, settings)), *rules)


def _freeze_input(snapshot: RunSnapshot, spec: CompileRunSpec, settings: Settings, now: datetime) -> _FrozenInput:
    """The existing frozen input, else a new one if the procedure is still the one that the run was created for."""
    if snapshot.input is not None:
        return _FrozenInput(snapshot.input)
    if spec.execution.suspend:
        return _FrozenInput()
    name = spec.inputs.procedure_ref.name
    if snapshot.procedure is None:
        text = f"Procedure {name} does not exist in this namespace; create it"
        return _FrozenInput(problem=(Reason.PROCEDURE_NOT_FOUND, text))
    check = checked(snapshot.procedure["spec"], snapshot.called, name)
    if check.errors:
        return _FrozenInput(problem=(check.reason, f"Procedure {name} has errors: {check.errors}"))
    procedure = flat_procedure(snapshot.procedure["spec"], snapshot.called, name)
    if (expected := spec.inputs.procedure_digest) is not None and expected != check.counts.digest:
        lost = f"and this run's ConfigMap {input_name(snapshot.run['metadata']['name'])} was deleted; finished work is kept"
        when = lost if _has_begun(snapshot) else "after this run was created; nothing was spent"
        return _FrozenInput(problem=(Reason.PROCEDURE_CHANGED, f"Procedure {name} was edited {when}; {_CREATE_ANOTHER}"))
    if problem := _rejection(spec, settings, now, has_tools=bool(procedure.tools), job_sets=snapshot.job_sets):
        return _FrozenInput(problem=problem)
    frozen = input_config_map(snapshot.run, _resolved_input(snapshot.run, spec, procedure, settings))
    called = tuple(snapshot.called.values())
    return _FrozenInput(frozen, (Write("create", frozen, guard=snapshot.procedure, more_guards=called),))


def _input_of_another(snapshot: RunSnapshot, spec: CompileRunSpec, settings: Settings, now: datetime) -> _FrozenInput:
    """The input of the run whose model is evaluated again, unless the evaluation may not begin."""
    if snapshot.input is None:
        of, name = spec.reevaluates or "", input_name(spec.reevaluates or "")
        text = f"run {of}, whose model this run evaluates, or its ConfigMap {name} does not exist; correct spec.reevaluates"
        return _FrozenInput(problem=(Reason.RUN_NOT_FOUND, f"{text}, or create a run that compiles the model again"))
    has_tools = TOOLS in annotations_of(snapshot.input)
    problem = None if _has_begun(snapshot) else _rejection(spec, settings, now, has_tools=has_tools, job_sets=snapshot.job_sets)
    return _FrozenInput(problem=problem) if problem else _FrozenInput(snapshot.input)


def _has_begun(snapshot: RunSnapshot) -> bool:
    """Whether a stage was attempted."""
    stages = (snapshot.run.get("status") or {}).get("stages", ())
    return bool(snapshot.jobs) or any(stage.get("attempt") for stage in stages)


def _rejection(
    spec: CompileRunSpec, settings: Settings, now: datetime, *, has_tools: bool, job_sets: bool
) -> tuple[Reason, str] | None:
    """Why nothing may be spent on this run, or `None`."""
    of_stages = (stage_problems(stage, spec, settings, job_sets=job_sets) for stage in _stages_of(spec))
    unrunnable = dict.fromkeys(problem for each in of_stages for problem in each)
    conflicts = [*provider_conflicts(spec.inputs), *tool_conflicts(spec.inputs, has_tools=has_tools)]
    problems = [*conflicts, *unreachable_models(spec.inputs, spec.execution, settings), *unrunnable]
    if problems := [*problems, *retired_models(spec.inputs, now.date(), _stages_of(spec))]:
        return Reason.INVALID_SPEC, "; ".join(problems)
    return None


def _resolved_input(run: Observed, spec: CompileRunSpec, procedure: ProcedureSpec, settings: Settings) -> RunInput:
    train = effective_pod("train", spec.execution, settings)
    return resolve(
        spec.inputs,
        procedure,
        procedure_digest(procedure),
        identity_of(run),
        store=f"file://{STORE_MOUNT}",
        ranks=default_ranks(train) * node_count(train),
        references=spec.references,
    )


def _suspension_reason(run: Observed, spec: CompileRunSpec) -> tuple[Reason, str] | None:
    if not spec.execution.suspend:
        return None
    if replacement := annotation(run, SUPERSEDED_BY):
        text = f"replaced by {replacement}; finished work is kept, and returning to these inputs resumes this run"
        return Reason.SUPERSEDED, text
    return Reason.SUSPENDED, "suspended; set spec.execution.suspend to false to resume"


def _status_only(status: CompileRunStatus, blockers: Blockers, now: datetime, inputs: CompileInputs | None = None) -> Decision:
    """The decision that writes only the status, which still has the conditions as they were.

    Models of `inputs` that retire soon are warned about until the run has ended.
    """
    present = conditions(status, blockers, status.conditions, now)
    if inputs is not None and present[0].status == "Unknown":
        make = ConditionBuilder(status.conditions, status.observed_generation, now)
        present = (*present, *retirement_condition(make, inputs, RETIREMENT_EFFECT))
    derived = {"conditions": present, "phase": phase(present), "progress": progress(status.stages)}
    return Decision(status=to_json(status.model_copy(update=derived)))
