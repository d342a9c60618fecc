"""Which model should an agent serve? Follows the procedure, the run, the gate and the pin, and gives the reason."""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from subterra_api.digest import short
from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus, CompileSource, Settling
from subterra_api.v1alpha1.compilerun import CompileInputs, CompileRunStatus, GatePolicy
from subterra_api.v1alpha1.conditions import POD_REASONS, REFUSALS, Reason, Type, timestamp
from subterra_api.v1alpha1.model_registry import REPOSITORY, TAG, ModelSource
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.agent.references import existing_origin, new_run_origin, next_attempt, references
from subterra_operator.decide.agent.run_history import (
    first_served,
    follow_requests,
    run_that_made,
    runs_to_prune,
    status_of,
    supersede,
    suspend_all,
)
from subterra_operator.decide.decision import Write, find_condition, seconds_since
from subterra_operator.decide.retry import RetryRequest
from subterra_operator.decide.run.status import VERDICTS
from subterra_operator.labels import AGENT_LABEL, labels_of
from subterra_operator.resources import is_deleting, owning_agent
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.compile_run import applied_to, compile_run, run_name_for
from subterra_operator.specs.deployment import ServingTarget
from subterra_operator.specs.vllm_container import Model, model_of

PROCEDURE_GRACE_SECONDS = 60.0
"""How long after its creation an agent waits for a missing procedure before it is Stalled."""


@dataclass(frozen=True)
class AgentState:
    """Whether the agent is up to date (`None`: unknown), and why; ``in_progress`` while the operator works on changing that."""

    up_to_date: bool | None
    reason: Reason
    message: str
    in_progress: bool = False
    activity: Reason | None = None
    """The work in progress, if ``reason`` is what keeps its pod from running instead; the phase follows from this one."""


@dataclass(frozen=True)
class Plan:
    """The model to serve, the wanted run, and what to write for it. Without ``target`` the present version goes on serving."""

    state: AgentState
    target: ServingTarget | None = None
    run: str | None = None
    run_status: CompileRunStatus | None = None
    procedure_digest: str | None = None
    settling: Settling | None = None
    writes: tuple[Write, ...] = ()
    deletes: tuple[Observed, ...] = ()
    recheck_after: float | None = None
    retry_waits: bool = False
    """Whether the run that a person asked for is yet to begin, so that the request must not be forgotten."""


def plan_model(snapshot: AgentSnapshot, source: ModelSource) -> Plan:
    """Serves a finished model from the namespace's store or a registry, and suspends unfinished runs."""
    writes = supersede(snapshot.runs, "spec.model")
    if problem := _unservable(source):
        return Plan(AgentState(False, Reason.INVALID_SPEC, problem), writes=writes)
    scheme, _, path = source.uri.partition("://")
    pulled = source if scheme == "oci" else None
    folder = artifact_path("train", source.digest) if pulled else path.strip("/")
    model = Model(folder, snapshot.agent["metadata"]["name"])
    target = ServingTarget(model, source.digest, turns=source.turns_per_conversation, pulled=pulled)
    state = AgentState(True, Reason.UP_TO_DATE, f"serves the model {short(source.digest)} of spec.model")
    return Plan(state, target, writes=writes)


def _unservable(source: ModelSource) -> str | None:
    """Why a model cannot be served from there, and what to do."""
    scheme, _, place = source.uri.partition("://")
    if scheme == "s3":
        return "spec.model.uri: s3:// cannot be served; copy the model into the namespace's store and use pvc://PATH"
    if scheme == "pvc" and (source.require_attestation or source.registry_secret):
        field = "requireAttestation" if source.require_attestation else "registrySecret"
        return f"spec.model.{field}: {source.uri} comes from no registry; export the model (spec.promotion.export) and use oci://"
    if scheme == "oci" and not re.fullmatch(rf"{REPOSITORY}@sha256:[0-9a-f]{{64}}", place):
        untagged = re.sub(rf"(@.*|:{TAG})$", "", place)
        return (
            f"spec.model.uri: {source.uri} does not name one artifact for good; write oci://{untagged}@sha256:… with the "
            "artifact's digest, as in status.exported.uri of the agent that was exported"
        )
    return None


@dataclass(frozen=True)
class CompilePlanner:
    """An agent that compiles a procedure, at one moment. ``before`` is its recorded status."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    source: CompileSource
    before: CompiledAgentStatus
    now: datetime
    retry: RetryRequest

    def plan(self) -> Plan:
        """The plan, checked in this order: procedure, run, verdict, pin."""
        accepted = self._accepted_procedure()
        if isinstance(accepted, AgentState):
            writes = suspend_all(self.snapshot.runs) if self.source.suspend else ()
            left = self._grace_seconds()
            recheck = left if accepted.in_progress and left > 0 else None  # the procedure's own status wakes the agent too
            return self._with_pin(Plan(accepted, writes=writes, recheck_after=recheck))
        digest = accepted.digest or ""
        name = run_name_for(self.snapshot.agent["metadata"]["name"], self.source, digest)
        run = self.snapshot.run(name)
        if run is None:
            return self._with_pin(self._plan_new_run(name, digest))
        return self._with_pin(self._follow_run(run, accepted.digest))

    def _follow_run(self, run: Observed, digest: str | None) -> Plan:
        """The wanted run exists: keep it in line with the agent, and serve its model once it is promoted."""
        name, status = run["metadata"]["name"], status_of(run)
        desired = compile_run(self.snapshot.agent, self.spec, self.source, digest or "", existing_origin(run))
        writes = (
            Write("apply", applied_to(run, desired)),
            *follow_requests(run, self.retry, suspend=self.source.suspend),
            *supersede(self.snapshot.runs, name),
        )
        state = self._run_state(run, status, name)
        target = target_of(run, status) if state.up_to_date else None
        old_runs = runs_to_prune(self.snapshot, self.spec, self.before, name)
        return Plan(state, target, name, status, digest, None, writes, old_runs)

    def _accepted_procedure(self) -> ProcedureStatus | AgentState:
        """The procedure's status, or why it cannot be compiled."""
        name = self.source.procedure_ref.name
        procedure = self.snapshot.procedure
        if procedure is None:
            text = f"Procedure {name} does not exist in this namespace; create it"
            return AgentState(None, Reason.PROCEDURE_NOT_FOUND, text, in_progress=self._grace_seconds() > 0)
        status = ProcedureStatus.model_validate(procedure.get("status") or {})
        accepted = find_condition(status.conditions, Type.ACCEPTED)
        if accepted is None or status.observed_generation != procedure["metadata"].get("generation", 0):
            return AgentState(None, Reason.PENDING, f"Procedure {name} is being checked", in_progress=True)
        if accepted.status == "Unknown":
            return AgentState(None, Reason.PENDING, f"Procedure {name} waits: {accepted.message}", in_progress=True)
        if accepted.status != "True":
            return AgentState(None, Reason.INVALID_PROCEDURE, f"Procedure {name} is not accepted: {accepted.message}")
        return status

    def _grace_seconds(self) -> float:
        """Seconds left for the procedure to appear: the files of one commit are applied in any order."""
        return PROCEDURE_GRACE_SECONDS - seconds_since(self.snapshot.agent["metadata"]["creationTimestamp"], self.now)

    def _plan_new_run(self, name: str, digest: str) -> Plan:
        """The wanted run does not exist yet."""
        if self.source.suspend:
            state = AgentState(False, Reason.SUSPENDED, "spec.compile.suspend is set; clear it to compile")
            return Plan(state, procedure_digest=digest, writes=suspend_all(self.snapshot.runs))
        if self.source.trigger == "Manual" and self.retry.new is None:
            text = f"inputs changed and the trigger is Manual; set the annotation {RETRY_AT} to the current time to compile"
            return Plan(AgentState(False, Reason.AWAITING_TRIGGER, text), procedure_digest=digest)
        settling = self._settling(name)
        if (left := self.source.settle_seconds - seconds_since(settling.since, self.now)) > 0:
            text = f"run {name} starts once nothing has been edited for {self.source.settle_seconds} s"
            state = AgentState(False, Reason.COMPILING, text, in_progress=True)
            asked = self.source.trigger == "Manual"
            return Plan(state, procedure_digest=digest, settling=settling, recheck_after=left, retry_waits=asked)
        anchor = self.spec.promotion.anchor
        if anchor is not None and run_that_made(self.snapshot.runs, anchor) is None:
            return Plan(AgentState(False, Reason.INVALID_SPEC, _unknown_model("anchor", anchor)), procedure_digest=digest)
        return self._start_run(name, digest)

    def _start_run(self, name: str, digest: str) -> Plan:
        compared = references(self.snapshot, self.before.serving, self.spec.promotion.anchor, first_served(self.before))
        served = {version.run for version in (self.before.serving, *self.before.history) if version and version.run}
        origin = new_run_origin(compared, next_attempt(self.snapshot.runs, digest, served))
        run = compile_run(self.snapshot.agent, self.spec, self.source, digest, origin)
        writes = (Write("apply", run, guard=self.snapshot.agent), *supersede(self.snapshot.runs, name))
        state = AgentState(False, Reason.COMPILING, starting_message(name), in_progress=True)
        return Plan(state, None, name, None, digest, writes=writes)

    def _settling(self, name: str) -> Settling:
        """Since when this run has been the wanted one; any edit of its inputs wants another run."""
        known = self.before.settling
        return known if known and known.run == name else Settling(run=name, since=timestamp(self.now))

    def _run_state(self, run: Observed, status: CompileRunStatus, name: str) -> AgentState:
        """State of the agent given the wanted run's; up to date when its model should be served."""
        stalled = find_condition(status.conditions, Type.STALLED)
        if stalled and stalled.status == "True":
            if stalled.reason in REFUSALS:
                return AgentState(False, Reason(stalled.reason), f"run {name} is blocked: {stalled.message}")
            return AgentState(False, Reason.COMPILE_FAILED, f"run {name} failed: {stalled.message}")
        succeeded = find_condition(status.conditions, Type.SUCCEEDED)
        if succeeded and succeeded.reason == Reason.SUSPENDED:
            return AgentState(False, Reason.SUSPENDED, f"run {name} is suspended; clear spec.compile.suspend to resume")
        if succeeded and succeeded.status == "Unknown" and succeeded.reason in POD_REASONS:
            text = f"run {name} waits: {succeeded.message}"
            return AgentState(False, Reason(succeeded.reason), text, in_progress=True, activity=Reason.COMPILING)
        if status.verdict is None or not self._verdict_is_current(run, status):
            deleted = f"run {name} is being deleted and begins again once it is gone; if it stays, see its metadata.finalizers"
            text = deleted if is_deleting(run) else f"run {name} is in progress"
            return AgentState(False, Reason.COMPILING, text, in_progress=True)
        if status.verdict.result != "Pass":
            reasons = "; ".join(status.verdict.reasons)
            text = f"run {name} is not promoted: {reasons}; improve the procedure, or change spec.promotion.gate"
            return AgentState(False, VERDICTS[status.verdict.result], text)
        if self.spec.promotion.gate.dry_run and self.spec.promotion.pin != status.artifacts.model:
            text = f"run {name} passed the gate but is not served because spec.promotion.gate.dryRun is set; clear it to serve it"
            return AgentState(False, Reason.AWAITING_APPROVAL, text)
        if self.spec.promotion.mode == "Manual" and self.spec.promotion.pin != status.artifacts.model:
            text = f"run {name} passed the gate; set spec.promotion.pin to {status.artifacts.model} to serve it"
            return AgentState(False, Reason.AWAITING_APPROVAL, text)
        return AgentState(True, Reason.UP_TO_DATE, f"serves the model of run {name}")

    def _verdict_is_current(self, run: Observed, status: CompileRunStatus) -> bool:
        """Whether the verdict was given under the current policy."""
        policy = GatePolicy.model_validate((run["spec"].get("execution") or {}).get("gate") or {})
        return policy == self.spec.promotion.gate and status.observed_generation == run["metadata"].get("generation", 0)

    def _with_pin(self, plan: Plan) -> Plan:
        """The plan under the pin: it decides what is served, but does not stop compiling."""
        pin, serving = self.spec.promotion.pin, self.before.serving
        if pin is None or (plan.state.reason is Reason.PENDING and serving and serving.model_digest == pin):
            return plan  # until the procedure has been checked it is not known whether the pin holds anything back
        run = run_that_made(self.snapshot.runs, pin)
        if run is None:
            return replace(plan, state=AgentState(False, Reason.PINNED, _unknown_model("pin", pin)), target=None)
        return replace(plan, state=_pinned_state(plan, run), target=target_of(run, status_of(run)))


def _pinned_state(plan: Plan, run: Observed) -> AgentState:
    name = run["metadata"]["name"]
    if name == plan.run:
        return AgentState(True, Reason.UP_TO_DATE, f"serves the model of run {name}, as pinned")
    text = f"pinned to the model of run {name}; remove spec.promotion.pin to follow the procedure"
    return AgentState(False, Reason.PINNED, f"{text}, where {plan.state.message}" if plan.run else text)


def _unknown_model(field: str, digest: str) -> str:
    return f"spec.promotion.{field} {digest}: no run of this agent has made that model; correct the {field} or remove it"


def starting_message(run: str) -> str:
    """The message of an agent whose run was created a moment ago."""
    return f"run {run} is starting"


def target_of(run: Observed, status: CompileRunStatus) -> ServingTarget | None:
    """The model that a run made, if any; its clients call it by the agent's name."""
    if not status.artifacts.model or not status.artifacts.model_path:
        return None
    agent = owning_agent(run) or labels_of(run).get(AGENT_LABEL, "")
    inputs = CompileInputs.model_validate(run["spec"]["inputs"])
    model = model_of(inputs, status.artifacts.model_path, agent, tools=bool(status.tools))
    turns = status.scores.turns_per_conversation if status.scores else None
    return ServingTarget(model, status.artifacts.model, run["metadata"]["name"], turns, status.artifacts.report_path)
