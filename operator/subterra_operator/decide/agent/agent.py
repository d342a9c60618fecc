"""A CompiledAgent: plan what should be served, roll it out, tell how it stands."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from subterra_api.v1alpha1.compiledagent import AgentVersion, Candidate, CompiledAgentSpec, CompiledAgentStatus, Price
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.agent.candidate import Compiling, Plan, Story, plan_model, target_of
from subterra_operator.decide.agent.price import combined
from subterra_operator.decide.agent.rollout import Rollout, Versions
from subterra_operator.decide.agent.run_history import status_of
from subterra_operator.decide.agent.status import Served, conditions, phase, told_story
from subterra_operator.decide.decision import Decision, soonest, wire
from subterra_operator.decide.procedure import explain
from subterra_operator.labels import RETRY_AT, SERVING_SINCE, VERSION_LABEL, annotations
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Seen
from subterra_operator.specs.deployment import Target, describe, selector, version_of
from subterra_operator.specs.vllm_container import RefusedArgumentError, check_arguments


@dataclass(frozen=True)
class _Agent:
    """An agent at one moment, with what its status said before."""

    snapshot: AgentSnapshot
    before: CompiledAgentStatus
    settings: Settings
    now: datetime

    @property
    def retry_at(self) -> str | None:
        return annotations(self.snapshot.agent).get(RETRY_AT)

    @property
    def retry(self) -> bool:
        """Whether a person asked again since the status was written."""
        return self.retry_at is not None and self.retry_at != self.before.retry_at


def decide_agent(snapshot: AgentSnapshot, settings: Settings, now: datetime) -> Decision:
    """Runs, Deployments and the Service to write, and the status."""
    agent = _Agent(snapshot, CompiledAgentStatus.model_validate(snapshot.agent.get("status") or {}), settings, now)
    try:
        spec = CompiledAgentSpec.model_validate(snapshot.agent["spec"])
        check_arguments(spec.serving.args)
    except (ValidationError, RefusedArgumentError) as error:
        return _refused(agent, explain(error) if isinstance(error, ValidationError) else str(error))
    plan = _plan(agent, spec)
    if plan.story.reason is Reason.PENDING and agent.before.conditions:
        return Decision()  # the procedure was edited a moment ago: what is told stands until it has been checked
    versions = Versions(snapshot, spec, settings, now, agent.retry)
    rollout = versions.roll_out(plan.target or _lost(agent, versions))
    return Decision(
        (*plan.writes, *rollout.writes), (*plan.deletes, *rollout.deletes), _status(agent, spec, plan, versions, rollout),
        soonest((plan.recheck_after, rollout.recheck_after, _patience(agent, spec, rollout))),
    )  # fmt: skip


def _plan(agent: _Agent, spec: CompiledAgentSpec) -> Plan:
    if spec.model is not None:
        return plan_model(agent.snapshot, spec.model)
    assert spec.compile is not None
    return Compiling(agent.snapshot, spec, spec.compile, agent.before, agent.now, agent.retry_at, agent.retry).plan()


def _lost(agent: _Agent, versions: Versions) -> Target | None:
    """What served and lost its Deployment or Service: it comes back, whatever stands in the way of something newer."""
    serving = agent.before.serving
    run = agent.snapshot.run(serving.run if serving else None)
    return target_of(run, status_of(run)) if run and versions.active is None else None


def _refused(agent: _Agent, problem: str) -> Decision:
    """A spec that cannot be obeyed changes nothing; what serves goes on."""
    versions = Versions(agent.snapshot, CompiledAgentSpec.model_construct(), agent.settings, agent.now)
    served = Served.of(versions.active, versions.trouble(versions.active_version or ""))
    story = Story(False, Reason.INVALID_SPEC, problem)
    generation = agent.snapshot.agent["metadata"].get("generation", 0)
    told = conditions(story, served, agent.before.conditions, generation, agent.now)
    status = agent.before.model_copy(update={"conditions": told, "phase": phase(told), "observed_generation": generation})
    return Decision(status=wire(status))


def _patience(agent: _Agent, spec: CompiledAgentSpec, rollout: Rollout) -> float | None:
    """Look again when pods that went away have been away for too long."""
    if rollout.active is None or rollout.active.get("status", {}).get("readyReplicas"):
        return None
    return float(spec.promotion.progress_deadline_seconds)


def _status(agent: _Agent, spec: CompiledAgentSpec, plan: Plan, versions: Versions, rollout: Rollout) -> dict[str, object]:
    name, metadata = agent.snapshot.agent["metadata"]["name"], agent.snapshot.agent["metadata"]
    blocked = agent.snapshot.blocked
    story = Story(False, Reason.NAME_TAKEN, blocked) if blocked else told_story(plan.story, rollout)
    served = Served.of(rollout.active, versions.trouble(versions.active_version or ""), spec.promotion.progress_deadline_seconds)
    generation = metadata.get("generation", 0)
    told = conditions(story, served, agent.before.conditions, generation, agent.now)
    serving = _serving(agent.snapshot, rollout.active)
    service = agent.snapshot.service
    status = CompiledAgentStatus(
        observed_generation=generation, conditions=told, phase=phase(told), procedure_digest=plan.digest, retry_at=agent.retry_at,
        current_run=plan.run, settling=plan.settling, stage=_stage(plan, rollout, story), serving=serving,
        candidate=_candidate(spec, plan),
        history=_history(agent.before, serving, spec.promotion.history_limit), price=_price(agent.snapshot, spec, serving),
        endpoint=f"http://{name}.{metadata['namespace']}.svc:{spec.serving.port}/v1" if service else None,
        replicas=served.ready, selector=_selector(name, versions.active_version), banner=_banner(agent.snapshot, plan, serving),
    )  # fmt: skip
    return wire(status)


def _selector(name: str, version: str | None) -> str | None:
    """As /scale wants it: a label selector in one string."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector(name, version).items())) if version else None


def _serving(snapshot: AgentSnapshot, active: Seen | None) -> AgentVersion | None:
    if active is None or snapshot.service is None or VERSION_LABEL not in active["metadata"]["labels"]:
        return None
    return describe(active, annotations(snapshot.service).get(SERVING_SINCE))


def _candidate(spec: CompiledAgentSpec, plan: Plan) -> Candidate | None:
    if plan.run is None and plan.target is None:
        return None
    version = version_of(plan.target, spec.serving) if plan.target else None
    made = plan.status.artifacts.model if plan.status else None
    digest = made or (plan.target.digest if plan.target else None)
    return Candidate(run=plan.run, version=version, model_digest=digest, verdict=plan.status.verdict if plan.status else None)


_STOPPED = {
    Reason.GATE_FAILED: "rejected",
    Reason.GATE_INCONCLUSIVE: "inconclusive",
    Reason.AWAITING_APPROVAL: "awaits approval",
}


def _stage(plan: Plan, rollout: Rollout, story: Story) -> str:
    """What is going on, in a word or two."""
    progress = plan.status.progress if plan.status else None
    if story.working and plan.target is None:
        return progress or "waiting"
    if rollout.state == "starting":
        return f"starting {rollout.version}"
    if story.up_to_date:
        return "serving"
    return _STOPPED.get(story.reason) or progress or "waiting"


def _history(before: CompiledAgentStatus, serving: AgentVersion | None, limit: int) -> tuple[AgentVersion, ...]:
    """What served, newest first; each version once."""
    if serving is None:
        return before.history[:limit]
    return (serving, *(item for item in before.history if item.version != serving.version))[:limit]


def _run_status(snapshot: AgentSnapshot, name: str | None) -> CompileRunStatus | None:
    run = snapshot.run(name)
    return status_of(run) if run else None


def _price(snapshot: AgentSnapshot, spec: CompiledAgentSpec, serving: AgentVersion | None) -> Price | None:
    if serving is None:
        return None
    run = _run_status(snapshot, serving.run)
    return combined(snapshot.prices, spec.cost.usd_per_hour, run.usd if run else None)


def _banner(snapshot: AgentSnapshot, plan: Plan, serving: AgentVersion | None) -> str | None:
    """What the figures that are shown are no evidence for."""
    run = _run_status(snapshot, serving.run) if serving else plan.status
    return run.banner if run else None
