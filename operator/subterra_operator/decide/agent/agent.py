"""A CompiledAgent: plan what should be served, roll it out, report its state."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import AgentVersion, Candidate, CompiledAgentSpec, CompiledAgentStatus, Price
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.agent.candidate import AgentState, CompilePlanner, Plan, plan_model, target_of
from subterra_operator.decide.agent.price import combine_prices
from subterra_operator.decide.agent.rollout import Rollout, Versions
from subterra_operator.decide.agent.run_history import status_of
from subterra_operator.decide.agent.status import Serving, conditions, phase, with_rollout
from subterra_operator.decide.decision import ConditionBuilder, Decision, earliest, to_json
from subterra_operator.decide.procedure import describe_errors
from subterra_operator.decide.retiring_models import models_of, retirement_condition
from subterra_operator.decide.retry import RetryRequest, retry_request
from subterra_operator.labels import SERVING_SINCE, VERSION_LABEL, annotation
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.deployment import ServingTarget, deployed_version, version_of
from subterra_operator.specs.service import selector
from subterra_operator.specs.vllm_container import RefusedArgumentError, check_arguments

RETIREMENT_EFFECT = "new runs are refused from that day on, what serves goes on serving"


@dataclass(frozen=True)
class _Context:
    """An agent at one moment; ``before`` is its recorded status."""

    snapshot: AgentSnapshot
    before: CompiledAgentStatus
    settings: Settings
    now: datetime

    @property
    def retry(self) -> RetryRequest:
        return retry_request(self.snapshot.agent, self.before.retry_at)

    @property
    def generation(self) -> int:
        return int(self.snapshot.agent["metadata"].get("generation", 0))


def decide_agent(snapshot: AgentSnapshot, settings: Settings, now: datetime) -> Decision:
    """Runs, Deployments and the Service to write, and the status."""
    context = _Context(snapshot, CompiledAgentStatus.model_validate(snapshot.agent.get("status") or {}), settings, now)
    try:
        spec = CompiledAgentSpec.model_validate(snapshot.agent["spec"])
        check_arguments(spec.serving.args)
    except (ValidationError, RefusedArgumentError) as error:
        return _invalid_spec(context, describe_errors(error) if isinstance(error, ValidationError) else str(error))
    plan = _plan(context, spec)
    if plan.state.reason is Reason.PENDING and context.before.conditions:
        return Decision()  # the procedure was edited a moment ago: keep the status until it has been checked
    versions = Versions(snapshot, spec, settings, now, context.retry.new is not None)
    rollout = versions.roll_out(plan.target or _lost_target(context, versions))
    return Decision(
        (*plan.writes, *rollout.writes),
        (*plan.deletes, *rollout.deletes),
        _status(context, spec, plan, versions, rollout),
        earliest((plan.recheck_after, rollout.recheck_after, _readiness_recheck(spec, rollout))),
    )


def _plan(context: _Context, spec: CompiledAgentSpec) -> Plan:
    if spec.model is not None:
        return plan_model(context.snapshot, spec.model)
    assert spec.compile is not None
    return CompilePlanner(context.snapshot, spec, spec.compile, context.before, context.now, context.retry).plan()


def _lost_target(context: _Context, versions: Versions) -> ServingTarget | None:
    """What served until its Deployment or Service was deleted: it is restored even if nothing newer can be served."""
    serving = context.before.serving
    run = context.snapshot.run(serving.run if serving else None)
    return target_of(run, status_of(run)) if run and versions.active is None else None


def _invalid_spec(context: _Context, problem: str) -> Decision:
    """An invalid spec changes only the status; the active version goes on serving."""
    versions = Versions(context.snapshot, CompiledAgentSpec.model_construct(), context.settings, context.now)
    serving = Serving.of(versions.active, versions.blocking_reason(versions.active_version or ""))
    state = AgentState(False, Reason.INVALID_SPEC, problem)
    present = conditions(state, serving, context.before.conditions, context.generation, context.now)
    update = {"conditions": present, "phase": phase(present), "observed_generation": context.generation}
    return Decision(status=to_json(context.before.model_copy(update=update)))


def _readiness_recheck(spec: CompiledAgentSpec, rollout: Rollout) -> float | None:
    """When to check again whether an active version without ready pods has missed its deadline."""
    if rollout.active is None or rollout.active.get("status", {}).get("readyReplicas"):
        return None
    return float(spec.promotion.progress_deadline_seconds)


def _status(context: _Context, spec: CompiledAgentSpec, plan: Plan, versions: Versions, rollout: Rollout) -> dict[str, object]:
    snapshot, before = context.snapshot, context.before
    name, namespace = snapshot.agent["metadata"]["name"], snapshot.agent["metadata"]["namespace"]
    state = _agent_state(snapshot, plan, rollout)
    blocked = versions.blocking_reason(versions.active_version or "")
    serving = Serving.of(rollout.active, blocked, spec.promotion.progress_deadline_seconds)
    present = conditions(state, serving, before.conditions, context.generation, context.now)
    version = _serving_version(snapshot, rollout.active)
    status = CompiledAgentStatus(
        observed_generation=context.generation,
        conditions=(*present, *_retirement(context, spec)),
        phase=phase(present),
        procedure_digest=plan.procedure_digest,
        retry_at=context.retry.seen,
        current_run=plan.run,
        settling=plan.settling,
        stage=_stage(plan, rollout, state),
        serving=version,
        candidate=_candidate(spec, plan),
        history=_history(before, version, spec.promotion.history_limit),
        price=_price(snapshot, spec, version),
        endpoint=f"http://{name}.{namespace}.svc:{spec.serving.port}/v1" if snapshot.service else None,
        replicas=serving.ready,
        selector=_scale_selector(name, versions.active_version),
        banner=_banner(snapshot, plan, version),
    )
    return to_json(status)


def _retirement(context: _Context, spec: CompiledAgentSpec) -> tuple[Condition, ...]:
    if spec.compile is None:
        return ()
    make = ConditionBuilder(context.before.conditions, context.generation, context.now)
    return retirement_condition(make, models_of(spec.compile), RETIREMENT_EFFECT)


def _agent_state(snapshot: AgentSnapshot, plan: Plan, rollout: Rollout) -> AgentState:
    if snapshot.name_conflict:
        return AgentState(False, Reason.NAME_TAKEN, snapshot.name_conflict)
    return with_rollout(plan.state, rollout)


def _scale_selector(name: str, version: str | None) -> str | None:
    """The pods' label selector as one string, which the scale subresource needs."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector(name, version).items())) if version else None


def _serving_version(snapshot: AgentSnapshot, active: Observed | None) -> AgentVersion | None:
    if active is None or snapshot.service is None or VERSION_LABEL not in active["metadata"]["labels"]:
        return None
    return deployed_version(active, annotation(snapshot.service, SERVING_SINCE))


def _candidate(spec: CompiledAgentSpec, plan: Plan) -> Candidate | None:
    if plan.run is None and plan.target is None:
        return None
    version = version_of(plan.target, spec.serving) if plan.target else None
    compiled, verdict = (plan.run_status.artifacts.model, plan.run_status.verdict) if plan.run_status else (None, None)
    digest = compiled or (plan.target.digest if plan.target else None)
    return Candidate(run=plan.run, version=version, model_digest=digest, verdict=verdict)


_NOT_PROMOTED = {
    Reason.GATE_FAILED: "rejected",
    Reason.GATE_INCONCLUSIVE: "inconclusive",
    Reason.AWAITING_APPROVAL: "awaits approval",
}


def _stage(plan: Plan, rollout: Rollout, state: AgentState) -> str:
    """The current activity, in a word or two."""
    progress = plan.run_status.progress if plan.run_status else None
    if state.in_progress and plan.target is None:
        return progress or "waiting"
    if rollout.state == "starting":
        return f"starting {rollout.version}"
    if state.up_to_date:
        return "serving"
    return _NOT_PROMOTED.get(state.reason) or progress or "waiting"


def _history(before: CompiledAgentStatus, serving: AgentVersion | None, limit: int) -> tuple[AgentVersion, ...]:
    """The versions that have served, newest first, each once."""
    if serving is None:
        return before.history[:limit]
    return (serving, *(version for version in before.history if version.version != serving.version))[:limit]


def _run_status(snapshot: AgentSnapshot, name: str | None) -> CompileRunStatus | None:
    run = snapshot.run(name)
    return status_of(run) if run else None


def _price(snapshot: AgentSnapshot, spec: CompiledAgentSpec, serving: AgentVersion | None) -> Price | None:
    if serving is None:
        return None
    run = _run_status(snapshot, serving.run)
    return combine_prices(snapshot.prices, spec.cost.usd_per_hour, run.usd if run else None)


def _banner(snapshot: AgentSnapshot, plan: Plan, serving: AgentVersion | None) -> str | None:
    """The disclaimer about the evaluation's figures, of the run whose figures are shown."""
    run = _run_status(snapshot, serving.run) if serving else plan.run_status
    return run.banner if run else None
