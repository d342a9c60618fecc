"""A CompiledAgent: plan what should be served, roll it out, report its state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import (
    AgentVersion,
    Candidate,
    CompiledAgentSpec,
    CompiledAgentStatus,
    Price,
    ServingSettings,
)
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_core.node_pools import serving_usd_per_hour
from subterra_operator.decide.agent.candidate import AgentState, CompilePlanner, Plan, plan_model, target_of
from subterra_operator.decide.agent.drift import Drift, drifts, record
from subterra_operator.decide.agent.model_export import Export, Exporter
from subterra_operator.decide.agent.price import combine_prices, price_to_report
from subterra_operator.decide.agent.reevaluation import Reevaluated, Reevaluator
from subterra_operator.decide.agent.rollout import Rollout, Versions
from subterra_operator.decide.agent.run_history import first_served, status_of
from subterra_operator.decide.agent.served_conversations import Watched, watch
from subterra_operator.decide.agent.status import Serving, conditions, downtime, phase, reason, with_drift, with_rollout
from subterra_operator.decide.agent.traffic_objects import (
    budgets,
    disused_objects,
    policies,
    pool_condition,
    pool_writes,
    without_lost_share,
)
from subterra_operator.decide.decision import ConditionBuilder, Decision, Write, earliest, to_json
from subterra_operator.decide.procedure_check import describe_errors
from subterra_operator.decide.retiring_models import models_of, retirement_condition
from subterra_operator.decide.retry import RetryRequest, retry_request
from subterra_operator.decide.trouble.trouble import Trouble
from subterra_operator.decide.unrunnable import promotion_problems, serving_problems
from subterra_operator.labels import MODEL_DIGEST, RESTART_AT, SERVING_SINCE, annotation, annotations_of
from subterra_operator.resources import key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.deployment import ServingTarget, deployed_version, version_label, version_of
from subterra_operator.specs.traffic.service import selector
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

    @property
    def make(self) -> ConditionBuilder:
        return ConditionBuilder(self.before.conditions, self.generation, self.now)


def decide_agent(snapshot: AgentSnapshot, settings: Settings, now: datetime) -> Decision:
    """Runs, Deployments and the Service to write, and the status."""
    context = _Context(snapshot, CompiledAgentStatus.model_validate(snapshot.agent.get("status") or {}), settings, now)
    spec = _parse_spec(context)
    if isinstance(spec, str):
        return _invalid_spec(context, problem=spec)
    plan = _plan(context, spec)
    if plan.state.reason is Reason.PENDING and context.before.conditions:
        return Decision()  # the procedure was edited a moment ago: keep the status until it has been checked
    versions = Versions(snapshot, spec, settings, now, context.retry.new is not None, context.before)
    rollout = versions.roll_out(plan.target or _lost_target(context, versions) or _restarted_target(context, spec, versions))
    troubles = _troubles(versions, rollout)
    drifted = _drifts(context, spec, versions, rollout)
    price, newer_price_after = _price(context, spec, plan, _serving_version(snapshot, rollout.active))
    status = _status(context, spec, plan, versions, rollout, drifted).model_copy(update={"price": price})
    watched = _watched(context, spec, status)
    again, exported = _reevaluated(context, spec, status), _exported(context, spec, status)
    pool = pool_condition(snapshot, spec.serving, rollout.moves_to or versions.active_version, context.make)
    status = _with_findings(status, watched, again, exported, pool)
    kept = (*_kept_objects(context, spec, versions, rollout), *_upkeep(versions, rollout, drifted))
    return Decision(
        writes=(*plan.writes, *_rollout_writes(versions, rollout, troubles), *kept, *again.writes, *exported.writes),
        deletes=(*plan.deletes, *rollout.deletes, *disused_objects(snapshot, spec), *again.runs_to_delete(snapshot.reevaluations)),
        status=to_json(_unwritten(context, plan, status) if snapshot.refusal and not snapshot.refusal.of_deletion else status),
        recheck_after=earliest(
            (
                *(plan.recheck_after, rollout.recheck_after, _readiness_recheck(spec, rollout)),
                *(newer_price_after, watched.recheck_after, again.recheck_after, exported.recheck_after),
                *(drift.recheck_after for drift in drifted),
                *(trouble.recheck_after(now) for trouble in troubles),
            )
        ),
        lookups=(*(key for trouble in troubles for key in trouble.lookups(now)), *exported.lookups),
    )


def _parse_spec(context: _Context) -> CompiledAgentSpec | str:
    """The agent's spec, or what is wrong with it."""
    try:
        spec = CompiledAgentSpec.model_validate(context.snapshot.agent["spec"])
        check_arguments(spec.serving.args)
    except ValidationError as error:
        return describe_errors(error)
    except RefusedArgumentError as error:
        return str(error)
    problems = (*serving_problems(spec.serving, context.settings), *promotion_problems(spec))
    return "; ".join(problems) if problems else spec


def _rollout_writes(versions: Versions, rollout: Rollout, troubles: Sequence[Trouble]) -> Iterator[Write]:
    """The writes of the rollout. What serves does not wait for the next run, nor its scaling for the next version."""
    if any(trouble.claim_missing for trouble in troubles):
        yield replace(versions.claim(), group="rollout")
    for write in rollout.writes:
        yield replace(write, group=write.group or "rollout")


def _kept_objects(context: _Context, spec: CompiledAgentSpec, versions: Versions, rollout: Rollout) -> tuple[Write, ...]:
    """NetworkPolicies, PodDisruptionBudget and InferencePool of an agent that serves: one that was deleted or edited comes back."""
    if not context.snapshot.deployments:
        return ()
    agent, serving = context.snapshot.agent, spec.serving
    pool = _pool(context.snapshot, serving, versions, rollout)
    return (*pool, *policies(agent, serving, context.settings), *budgets(agent, serving, versions.active_version))


def _pool(snapshot: AgentSnapshot, serving: ServingSettings, versions: Versions, rollout: Rollout) -> tuple[Write, ...]:
    """The InferencePool, which moves with the Service, and not if that is refused."""
    writes = pool_writes(snapshot, serving, rollout.moves_to or versions.active_version)
    return tuple(replace(write, group="rollout" if rollout.moves_to else "inference pool") for write in writes)


def _maintained_deployments(versions: Versions, rollout: Rollout) -> dict[str, Observed]:
    """The Deployments that serve or are about to, by version, save those that the rollout changes just now."""
    changing = {write.key for write in rollout.writes}
    found = {version: versions.get(version) for version in (rollout.version, versions.active_version) if version}
    return {version: item for version, item in found.items() if item and key_of(item) not in changing}


def _drifts(context: _Context, spec: CompiledAgentSpec, versions: Versions, rollout: Rollout) -> tuple[Drift, ...]:
    agent, service = context.snapshot.agent["metadata"]["name"], context.snapshot.service
    settled = service if service and key_of(service) not in {write.key for write in rollout.writes} else None
    maintained, port = _maintained_deployments(versions, rollout), spec.serving.port
    return drifts(agent, maintained, versions.kept_replicas, settled, port, versions.edited, context.now)


def _upkeep(versions: Versions, rollout: Rollout, drifted: Sequence[Drift]) -> tuple[Write, ...]:
    """The records of Deployments that were just made, and the restoring of what others changed."""
    records = (record(item) for item in _maintained_deployments(versions, rollout).values())
    restored = (drift.write for drift in drifted)
    return tuple(replace(write, group=str(write.key)) for write in (*records, *restored) if write)


def _troubles(versions: Versions, rollout: Rollout) -> tuple[Trouble, ...]:
    """What keeps the wanted version's pods from running, and those of a version that should be serving."""
    active = rollout.active
    down = active is not None and not active.get("status", {}).get("readyReplicas")
    return tuple(filter(None, (rollout.trouble, versions.trouble(versions.active_version) if down else None)))


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


def _restarted_target(context: _Context, spec: CompiledAgentSpec, versions: Versions) -> ServingTarget | None:
    """What serves, if it should be started again although nothing newer can be served."""
    wanted, active = spec.serving.restart_at, versions.active
    if wanted is None or active is None or annotations_of(active).get(RESTART_AT) == wanted:
        return None
    run = context.snapshot.run(deployed_version(active).run)
    target = target_of(run, status_of(run)) if run else None
    return target if target and target.digest == annotations_of(active).get(MODEL_DIGEST) else None


def _invalid_spec(context: _Context, problem: str) -> Decision:
    """An invalid spec changes the status, and no route sends requests to what may be another agent's; the rest goes on as it is."""
    versions = Versions(context.snapshot, CompiledAgentSpec.model_construct(), context.settings, context.now)
    serving = Serving.of(versions.active, versions.trouble(versions.active_version))
    state = AgentState(False, Reason.INVALID_SPEC, problem)
    present = conditions(state, serving, context.before.conditions, context.generation, context.now)
    derived = {"phase": phase(present), "reason": reason(present)}
    update = {"conditions": present, **derived, "observed_generation": context.generation}
    return Decision(without_lost_share(context.snapshot), status=to_json(context.before.model_copy(update=update)))


def _readiness_recheck(spec: CompiledAgentSpec, rollout: Rollout) -> float | None:
    """When to check again whether an active version without ready pods has missed its deadline."""
    if rollout.active is None or rollout.active.get("status", {}).get("readyReplicas"):
        return None
    return float(spec.promotion.progress_deadline_seconds)


def _status(
    context: _Context, spec: CompiledAgentSpec, plan: Plan, versions: Versions, rollout: Rollout, drifted: Sequence[Drift]
) -> CompiledAgentStatus:
    """The status without a price."""
    snapshot, before = context.snapshot, context.before
    name, namespace = snapshot.agent["metadata"]["name"], snapshot.agent["metadata"]["namespace"]
    state = with_drift(_agent_state(snapshot, plan, rollout, context.now), drifted)
    serving = Serving.of(rollout.active, versions.trouble(versions.active_version), spec.promotion.progress_deadline_seconds)
    present = conditions(state, serving, before.conditions, context.generation, context.now)
    version = _serving_version(snapshot, rollout.active)
    return CompiledAgentStatus(
        observed_generation=context.generation,
        conditions=(*present, *_retirement(context, spec)),
        phase=phase(present, state.activity),
        reason=reason(present),
        procedure_digest=plan.procedure_digest,
        retry_at=before.retry_at if plan.retry_waits else context.retry.seen,
        current_run=plan.run,
        settling=plan.settling,
        stage=_stage(plan, rollout, state, serving),
        serving=version,
        downtime=downtime(before.downtime, rollout.active, rollout.version, context.now),
        canary=rollout.canary if rollout.state == "canary" else None,
        candidate=_candidate(spec, plan),
        history=_history(before, version, spec.promotion.history_limit),
        anchor=first_served(before) or (version.model_digest if version and version.run else None),
        endpoint=f"http://{name}.{namespace}.svc:{spec.serving.port}/v1" if snapshot.service else None,
        replicas=serving.ready,
        selector=_scale_selector(name, versions.active_version),
        banner=_banner(snapshot, plan, version),
    )


def _unwritten(context: _Context, plan: Plan, status: CompiledAgentStatus) -> CompiledAgentStatus:
    """The status after a refused write: what was asked for and not done stays open, and a run that was not created is not named."""
    update: dict[str, object] = {"stage": "blocked", "retry_at": context.before.retry_at, "canary": context.before.canary}
    if plan.run is not None and context.snapshot.run(plan.run) is None:
        update |= {name: getattr(context.before, name) for name in ("settling", "current_run", "candidate")}
    made = {run["metadata"]["name"] for run in context.snapshot.reevaluations}
    if status.reevaluation is not None and status.reevaluation.run not in made:
        update |= {"reevaluation": context.before.reevaluation}
    return status.model_copy(update=update)


def _reevaluated(context: _Context, spec: CompiledAgentSpec, status: CompiledAgentStatus) -> Reevaluated:
    return Reevaluator(context.snapshot, spec, context.before, status.serving, status.history, context.retry, context.make).decide()


def _exported(context: _Context, spec: CompiledAgentSpec, status: CompiledAgentStatus) -> Export:
    return Exporter(context.snapshot, spec, context.before, context.settings, context.make).export(status.serving)


def _with_findings(
    status: CompiledAgentStatus, watched: Watched, again: Reevaluated, exported: Export, pool: tuple[Condition, ...]
) -> CompiledAgentStatus:
    """The status with what is known about the model that serves, which neither `Ready` nor the phase depends on."""
    conditions = (*status.conditions, *watched.conditions, *again.conditions, *exported.conditions, *pool)
    update: dict[str, object] = {"conditions": conditions, "monitored": watched.monitored, "exported": exported.exported}
    update |= {"reevaluation": again.request, "history": again.history}
    if again.in_progress:
        update["stage"] = f"{status.stage}, reevaluating"
    return status.model_copy(update=update)


def _retirement(context: _Context, spec: CompiledAgentSpec) -> tuple[Condition, ...]:
    if spec.compile is None:
        return ()
    return retirement_condition(context.make, models_of(spec.compile), RETIREMENT_EFFECT)


def _agent_state(snapshot: AgentSnapshot, plan: Plan, rollout: Rollout, now: datetime) -> AgentState:
    if snapshot.refusal:
        return AgentState(False, snapshot.refusal.reason, snapshot.refusal.message)
    return with_rollout(plan.state, rollout, now)


def _scale_selector(name: str, version: str | None) -> str | None:
    """The pods' label selector as one string, which the scale subresource needs."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector(name, version).items())) if version else None


def _serving_version(snapshot: AgentSnapshot, active: Observed | None) -> AgentVersion | None:
    if active is None or snapshot.service is None or not version_label(active):
        return None
    return deployed_version(active, annotation(snapshot.service, SERVING_SINCE))


def _candidate(spec: CompiledAgentSpec, plan: Plan) -> Candidate | None:
    if plan.run is None and plan.target is None:
        return None
    version = version_of(plan.target, spec.serving, spec.monitoring) if plan.target else None
    compiled, verdict = (plan.run_status.artifacts.model, plan.run_status.verdict) if plan.run_status else (None, None)
    digest = compiled or (plan.target.digest if plan.target else None)
    return Candidate(run=plan.run, version=version, model_digest=digest, verdict=verdict)


_NOT_PROMOTED = {
    Reason.GATE_FAILED: "rejected",
    Reason.GATE_INCONCLUSIVE: "inconclusive",
    Reason.AWAITING_APPROVAL: "awaits approval",
    Reason.SCALED_TO_ZERO: "scaled to zero",
}


def _stage(plan: Plan, rollout: Rollout, state: AgentState, serving: Serving) -> str:
    """The current activity, in a word or two."""
    progress = plan.run_status.progress if plan.run_status else None
    if state.in_progress and plan.target is None:
        return progress or "waiting"
    if rollout.state == "starting":
        return f"starting {rollout.version}"
    if rollout.canary:
        return f"canary, {rollout.canary.weight} %"
    if state.up_to_date:
        return _NOT_PROMOTED[Reason.SCALED_TO_ZERO] if serving.at_zero else "serving"
    return _NOT_PROMOTED.get(state.reason) or progress or "waiting"


def _history(before: CompiledAgentStatus, serving: AgentVersion | None, limit: int) -> tuple[AgentVersion, ...]:
    """The versions that have served, newest first, each once."""
    if serving is None:
        return before.history[:limit]
    known = next((version for version in before.history if version.version == serving.version), serving)
    current = serving.model_copy(update={"reevaluations": known.reevaluations})
    return (current, *(version for version in before.history if version.version != serving.version))[:limit]


def _run_status(snapshot: AgentSnapshot, plan: Plan, name: str | None) -> CompileRunStatus | None:
    """Status of a run; the plan has read that of the wanted one, which is mostly the one that serves."""
    if name is not None and name == plan.run and plan.run_status is not None:
        return plan.run_status
    run = snapshot.run(name)
    return status_of(run) if run else None


def _price(
    context: _Context, spec: CompiledAgentSpec, plan: Plan, serving: AgentVersion | None
) -> tuple[Price | None, float | None]:
    """The price to report, and when there may be a newer one to report."""
    if serving is None:
        return None, None
    run, known = _run_status(context.snapshot, plan, serving.run), context.before.serving
    before = context.before.price if known and known.version == serving.version else None
    hourly = serving_usd_per_hour(spec, context.settings.pools)
    current = combine_prices(context.snapshot.prices, hourly, run.usd if run else None)
    return price_to_report(before, current, context.now)


def _watched(context: _Context, spec: CompiledAgentSpec, status: CompiledAgentStatus) -> Watched:
    """What monitors have found, if the serving version's pods have them."""
    known = context.before.serving.version if context.before.serving else None
    if spec.monitoring is None or status.serving is None:
        return Watched()
    same = known == status.serving.version
    before = context.before if same else context.before.model_copy(update={"monitored": None, "conditions": ()})
    return watch(context.snapshot.prices, before, ConditionBuilder(before.conditions, context.generation, context.now))


def _banner(snapshot: AgentSnapshot, plan: Plan, serving: AgentVersion | None) -> str | None:
    """The disclaimer about the evaluation's figures, of the run whose figures are shown."""
    run = _run_status(snapshot, plan, serving.run) if serving else plan.run_status
    return run.banner if run else None
