"""Which model should an agent serve? Follows the procedure, the run, the gate and the pin, and says why."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from subterra_api.digest import short
from subterra_api.v1alpha1 import GROUP
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus, CompileSource, ModelSource, Settling
from subterra_api.v1alpha1.compilerun import CompileRunSpec, CompileRunStatus
from subterra_api.v1alpha1.conditions import Reason, Type, timestamp
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.agent.references import attempt, begun, kept, references
from subterra_operator.decide.agent.run_history import made, paused, status_of, superseded, surplus
from subterra_operator.decide.decision import Write, find, patch, seconds_since
from subterra_operator.decide.run.status import VERDICTS
from subterra_operator.labels import RETRY_AT, SUPERSEDED_BY, annotations
from subterra_operator.resources import Object
from subterra_operator.snapshot import AgentSnapshot, Seen
from subterra_operator.specs.compile_run import compile_run, wanted_name
from subterra_operator.specs.deployment import Target
from subterra_operator.specs.vllm_container import Model, model_of

PROCEDURE_SECONDS = 60.0
"""So long after its creation an agent waits for a procedure that is not there, before a person is asked."""


@dataclass(frozen=True)
class Story:
    """Is the agent up to date (none: unknown), and why; ``working`` when the operator itself is about to change that."""

    up_to_date: bool | None
    reason: Reason
    message: str
    working: bool = False


@dataclass(frozen=True)
class Plan:
    """What should be served, the run that is wanted, and what to write for it. Without ``target`` what serves goes on serving."""

    story: Story
    target: Target | None = None
    run: str | None = None
    status: CompileRunStatus | None = None
    digest: str | None = None
    settling: Settling | None = None
    writes: tuple[Write, ...] = field(default=())
    deletes: tuple[Seen, ...] = field(default=())
    recheck_after: float | None = None


def plan_model(snapshot: AgentSnapshot, source: ModelSource) -> Plan:
    """Serve a finished model from the namespace's store. Runs at work are of no use any more."""
    stopped = superseded(snapshot.runs, "spec.model")
    scheme, _, path = source.uri.partition("://")
    if scheme != "pvc":
        text = f"spec.model.uri: {scheme}:// cannot be served; copy the model into the namespace's store and use pvc://PATH"
        return Plan(Story(False, Reason.INVALID_SPEC, text), writes=stopped)
    name = snapshot.agent["metadata"]["name"]
    target = Target(Model(path.strip("/"), name), source.digest, turns=source.turns_per_conversation, verify=True)
    return Plan(Story(True, Reason.UP_TO_DATE, f"serves the model {short(source.digest)} as asked"), target, writes=stopped)


@dataclass(frozen=True)
class Compiling:
    """An agent that compiles a procedure, at one moment. ``before`` is what its status said; ``retry``: a person asks again."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    source: CompileSource
    before: CompiledAgentStatus
    now: datetime
    retry_at: str | None
    retry: bool

    def plan(self) -> Plan:
        """What should be served, checked in this order: procedure, run, verdict, pin."""
        if isinstance(accepted := self._procedure(), Story):
            writes = paused(self.snapshot.runs) if self.source.suspend else ()
            return self._pinned(Plan(accepted, writes=writes, recheck_after=self._grace() if accepted.working else None))
        name = wanted_name(self.snapshot.agent["metadata"]["name"], self.source, accepted.digest or "")
        run = self.snapshot.run(name)
        if run is None:
            return self._pinned(self._begin(name, accepted.digest or ""))
        status = status_of(run)
        wanted = compile_run(self.snapshot.agent, self.spec, self.source, accepted.digest or "", kept(run))
        writes = (Write("apply", wanted), *self._resumed(run), *superseded(self.snapshot.runs, name))
        story = self._judged(run, status, name)
        target = target_of(run, status) if story.up_to_date else None
        old = surplus(self.snapshot, self.spec, self.before, name)
        return self._pinned(Plan(story, target, name, status, accepted.digest, None, writes, old))

    def _procedure(self) -> ProcedureStatus | Story:
        """The procedure's status, or why it cannot be compiled."""
        name = self.source.procedure_ref.name
        procedure = self.snapshot.procedure
        if procedure is None:
            text = f"there is no Procedure {name} in this namespace; create it"
            return Story(None, Reason.PROCEDURE_NOT_FOUND, text, working=self._grace() > 0)
        status = ProcedureStatus.model_validate(procedure.get("status") or {})
        accepted = find(status.conditions, Type.ACCEPTED)
        if accepted is None or status.observed_generation != procedure["metadata"].get("generation", 0):
            return Story(None, Reason.PENDING, f"Procedure {name} is being checked", working=True)
        if accepted.status != "True":
            return Story(None, Reason.INVALID_PROCEDURE, f"Procedure {name} is not accepted: {accepted.message}")
        return status

    def _grace(self) -> float:
        """Seconds left in which the procedure may still come: files of one commit are applied in any order."""
        return PROCEDURE_SECONDS - seconds_since(self.snapshot.agent["metadata"]["creationTimestamp"], self.now)

    def _begin(self, name: str, digest: str) -> Plan:
        """The wanted run does not exist yet."""
        if self.source.suspend:
            story = Story(False, Reason.SUSPENDED, "spec.compile.suspend is set; clear it to compile")
            return Plan(story, digest=digest, writes=paused(self.snapshot.runs))
        if self.source.trigger == "Manual" and not self.retry:
            text = f"inputs changed and the trigger is Manual; set the annotation {RETRY_AT} to the time to compile"
            return Plan(Story(False, Reason.AWAITING_TRIGGER, text), digest=digest)
        settling = self._settling(name)
        if (left := self.source.settle_seconds - seconds_since(settling.since, self.now)) > 0:
            text = f"run {name} begins when nothing has been edited for {self.source.settle_seconds} s"
            story = Story(False, Reason.COMPILING, text, working=True)
            return Plan(story, digest=digest, settling=settling, recheck_after=left)
        anchor = self.spec.promotion.anchor
        if anchor is not None and made(self.snapshot.runs, anchor) is None:
            return Plan(Story(False, Reason.INVALID_SPEC, _not_made("anchor", anchor)), digest=digest)
        origin = begun(references(self.snapshot, self.before.serving, anchor), attempt(self.snapshot.runs, digest))
        run = Write("apply", compile_run(self.snapshot.agent, self.spec, self.source, digest, origin), guard=self.snapshot.agent)
        story = Story(False, Reason.COMPILING, f"run {name} begins", working=True)
        return Plan(story, None, name, None, digest, writes=(run, *superseded(self.snapshot.runs, name)))

    def _settling(self, name: str) -> Settling:
        """Since when this run is the wanted one; any edit of what it is made of wants another."""
        known = self.before.settling
        return known if known and known.run == name else Settling(run=name, since=timestamp(self.now))

    def _resumed(self, run: Seen) -> tuple[Write, ...]:
        """Suspension and retry of the wanted run are what the agent says."""
        change: Object = {}
        suspended = bool((run["spec"].get("execution") or {}).get("suspend", False))
        if SUPERSEDED_BY in annotations(run):
            change |= {"metadata": {"annotations": {SUPERSEDED_BY: None}}}
        if suspended != self.source.suspend:
            change |= {"spec": {"execution": {"suspend": self.source.suspend}}}
        if self.retry and annotations(run).get(RETRY_AT) != self.retry_at:
            change.setdefault("metadata", {}).setdefault("annotations", {})[RETRY_AT] = self.retry_at
        return (patch(run, change),) if change else ()

    def _judged(self, run: Seen, status: CompileRunStatus, name: str) -> Story:
        """How the wanted run stands; up to date when its model should be served."""
        stalled = find(status.conditions, Type.STALLED)
        if stalled and stalled.status == "True":
            return Story(False, Reason.COMPILE_FAILED, f"run {name} failed: {stalled.message}")
        succeeded = find(status.conditions, Type.SUCCEEDED)
        if succeeded and succeeded.reason == Reason.SUSPENDED:
            return Story(False, Reason.SUSPENDED, f"run {name} is suspended; clear spec.compile.suspend to go on")
        if status.verdict is None or not self._current(run, status):
            return Story(False, Reason.COMPILING, f"run {name} is at work", working=True)
        if status.verdict.result != "Pass":
            reasons = "; ".join(status.verdict.reasons)
            text = f"run {name} is not promoted: {reasons}; improve the procedure, or change spec.promotion.gate"
            return Story(False, VERDICTS[status.verdict.result], text)
        if self.spec.promotion.gate.dry_run and self.spec.promotion.pin != status.artifacts.model:
            text = f"run {name} passed the gate; spec.promotion.gate.dryRun is set, so it is not served; clear it to serve it"
            return Story(False, Reason.AWAITING_APPROVAL, text)
        if self.spec.promotion.mode == "Manual" and self.spec.promotion.pin != status.artifacts.model:
            text = f"run {name} passed the gate; set spec.promotion.pin to {status.artifacts.model} to serve it"
            return Story(False, Reason.AWAITING_APPROVAL, text)
        return Story(True, Reason.UP_TO_DATE, f"serves what run {name} made")

    def _current(self, run: Seen, status: CompileRunStatus) -> bool:
        """Whether the verdict was given under today's policy."""
        policy = CompileRunSpec.model_validate(run["spec"]).execution.gate
        return policy == self.spec.promotion.gate and status.observed_generation == run["metadata"].get("generation", 0)

    def _pinned(self, plan: Plan) -> Plan:
        """A pin decides what is served, whatever is newer; it does not stop compiling."""
        pin = self.spec.promotion.pin
        if pin is None:
            return plan
        if (run := made(self.snapshot.runs, pin)) is not None:
            return self._follow_pin(plan, run, status_of(run))
        return replace(plan, story=Story(False, Reason.PINNED, _not_made("pin", pin)), target=None)

    def _follow_pin(self, plan: Plan, run: Seen, status: CompileRunStatus) -> Plan:
        name = run["metadata"]["name"]
        target = target_of(run, status)
        if name == plan.run:
            return replace(plan, story=Story(True, Reason.UP_TO_DATE, f"serves what run {name} made, as pinned"), target=target)
        text = f"pinned to the model of run {name}; remove spec.promotion.pin to follow the procedure"
        if plan.run:
            text += f", where {plan.story.message}"
        return replace(plan, story=Story(False, Reason.PINNED, text), target=target)


def _not_made(field: str, digest: str) -> str:
    return f"spec.promotion.{field} {digest}: no run of this agent has made that model; correct the {field} or remove it"


def target_of(run: Seen, status: CompileRunStatus) -> Target | None:
    """The model that a run made; its clients know it by the agent's name."""
    if not status.artifacts.model or not status.artifacts.model_path:
        return None
    agent = run["metadata"]["labels"][f"{GROUP}/agent"]
    model = model_of(CompileRunSpec.model_validate(run["spec"]).inputs, status.artifacts.model_path, agent)
    turns = status.scores.turns_per_conversation if status.scores else None
    return Target(model, status.artifacts.model, run["metadata"]["name"], turns)
