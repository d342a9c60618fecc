"""The one thing that is wrong with an agent, and its fix, from its conditions, its run, its procedure, pods and Events. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from subterra_api.v1alpha1.conditions import POD_REASONS, Reason
from subterra_cli.agents.watch_compile import PROGRESS_REASONS, QUIET_SECONDS, age, stage_views
from subterra_cli.cluster import get_condition
from subterra_operator.decide.trouble.pod_trouble import pod_trouble
from subterra_operator.decide.trouble.trouble import Place, Trouble
from subterra_operator.labels import STAGE_LABEL, labels_of
from subterra_operator.resources import Key
from subterra_operator.snapshot import Events, Warned

Resource = dict[str, Any]
FIXES: Mapping[str, str] = {
    Reason.AWAITING_APPROVAL: "read the report with `subterra report {name}`, then `subterra approve {name}`",
    Reason.AWAITING_TRIGGER: "start it: kubectl annotate compiledagent {name} --overwrite subterra.dev/retry-at=$(date -u +%FT%TZ)",
    Reason.COMPILE_FAILED: "remove the cause, then retry: kubectl annotate compiledagent {name} --overwrite "
    "subterra.dev/retry-at=$(date -u +%FT%TZ)",
    Reason.GATE_FAILED: "read the report with `subterra report {name}`, improve procedure or settings, and apply them",
    Reason.GATE_INCONCLUSIVE: "raise evaluation.scenarios; the report says how many would decide: `subterra report {name}`",
    Reason.INVALID_PROCEDURE: "correct the procedure; `subterra lint FILE` names the lines",
    Reason.PROCEDURE_NOT_FOUND: "apply the Procedure, or correct spec.compile.procedureRef.name",
    Reason.SUSPENDED: "set spec.compile.suspend to false when it should go on",
}
"""What to do where the condition's message does not end with it."""
OPERATOR_FIX = "check its pods: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=subterra"


@dataclass(frozen=True)
class AgentObjects:
    """An agent with what belongs to it. ``heartbeat``: when its operator was last heard; `None` if that is not known."""

    agent: Resource
    run: Resource | None = None
    procedure: Resource | None = None
    pods: Sequence[Resource] = ()
    warnings: Sequence[Resource] = ()
    heartbeat: datetime | None = None

    @property
    def name(self) -> str:
        return str(self.agent["metadata"]["name"])


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong: ``healthy`` if nothing is and nothing has to be done."""

    summary: str
    cause: str = ""
    fix: str = ""
    healthy: bool = False

    def lines(self) -> list[str]:
        """For people."""
        parts = (("cause", self.cause), ("fix", self.fix))
        return [self.summary, *(f"{name}: {text}" for name, text in parts if text)]


def diagnose(objects: AgentObjects, now: datetime) -> Diagnosis:
    """The cause that explains the others: an operator that is away, then a pod, then the run, then the agent's own conditions."""
    return _operator_away(objects, now) or _own_condition(objects, now)


def _operator_away(objects: AgentObjects, now: datetime) -> Diagnosis | None:
    """That nobody acts, if the status cannot be believed for that."""
    if objects.heartbeat and now - objects.heartbeat > timedelta(seconds=QUIET_SECONDS):
        silence = age((now - objects.heartbeat).total_seconds())
        return Diagnosis(f"{objects.name}: the operator is away", f"the operator was last heard {silence} ago", OPERATOR_FIX)
    status = objects.agent.get("status", {})
    if status.get("observedGeneration", -1) < 0:
        return Diagnosis(
            f"{objects.name}: no operator has seen it", "no operator watches this namespace, or none runs", OPERATOR_FIX
        )
    return None


def _own_condition(objects: AgentObjects, now: datetime) -> Diagnosis:
    ready, up_to_date = (get_condition(objects.agent, kind) for kind in ("Ready", "UpToDate"))
    serving = ready.get("status") == "True"
    if serving and up_to_date.get("status") == "True":
        return _of_what_serves(objects)
    chosen = up_to_date if serving else ready
    summary = f"{objects.name}: {'serves an earlier version' if serving else 'does not serve'}, {chosen.get('reason', 'Unknown')}"
    if trouble := _pod_trouble(objects, now):
        return Diagnosis(f"{summary} ({trouble.reason})", trouble.cause, trouble.fix)
    deeper = _deeper(objects, chosen)
    if deeper is None and chosen.get("reason") in PROGRESS_REASONS:
        running = [view.line() for view in stage_views(objects.agent, objects.run) if view.state == "Running"]
        doing = f"{summary}; nothing is wrong: {running[0] if running else chosen.get('message', 'it begins')}"
        return Diagnosis(doing, healthy=True)
    return _from_condition(objects.name, summary, deeper or chosen)


def _of_what_serves(objects: AgentObjects) -> Diagnosis:
    """An agent that serves what it should: whether gateways reach it, and what another evaluation found if one was asked for."""
    again, serves = get_condition(objects.agent, "Reevaluated"), f"it serves version {_serving(objects.agent)}"
    if (pool := get_condition(objects.agent, "InferencePoolReady")).get("status") == "False":
        return _from_condition(objects.name, f"{objects.name}: {serves}; {pool['reason']}", pool)
    if again.get("status") == "Unknown":
        return Diagnosis(f"{objects.name}: nothing is wrong; {serves}; {again['message']}", healthy=True)
    if not again or again["reason"] == Reason.VERDICT_CONFIRMED:
        return Diagnosis(f"{objects.name}: nothing is wrong; {serves}", healthy=True)
    return _from_condition(objects.name, f"{objects.name}: {serves}; {again['reason']}", again)


def _serving(agent: Resource) -> str:
    return str(agent.get("status", {}).get("serving", {}).get("version", "unknown"))


def _deeper(objects: AgentObjects, chosen: Mapping[str, str]) -> Mapping[str, str] | None:
    """The condition of procedure or run that explains the agent's."""
    accepted = get_condition(objects.procedure, "Accepted") if objects.procedure else {}
    if chosen.get("reason") in (Reason.INVALID_PROCEDURE, Reason.TOO_LARGE) and accepted.get("status") == "False":
        return accepted
    stalled = get_condition(objects.run, "Stalled") if objects.run else {}
    waiting = get_condition(objects.run, "Reconciling") if objects.run else {}
    if stalled.get("status") == "True":
        return stalled
    return waiting if waiting.get("status") == "True" and waiting.get("reason") in POD_REASONS else None


def _from_condition(name: str, summary: str, condition: Mapping[str, str]) -> Diagnosis:
    reason, message = condition.get("reason", ""), condition.get("message", "")
    if (own := FIXES.get(reason)) is not None:
        return Diagnosis(summary, message, own.format(name=name))
    cause, separator, fix = message.rpartition("; ")
    if separator:
        return Diagnosis(summary, cause, fix)
    return Diagnosis(summary, message, f"see docs/guides/troubleshooting.md, and: kubectl describe compiledagent {name}")


def _pod_trouble(objects: AgentObjects, now: datetime) -> Trouble | None:
    """What keeps a pod from running for longer than usual; the first by name."""
    events = _events(objects.warnings)
    for pod in sorted(objects.pods, key=lambda pod: str(pod["metadata"]["name"])):
        trouble = pod_trouble(pod, events, _place(pod), now)
        if trouble is not None and trouble.lasts(now):
            return trouble
    return None


def _place(pod: Resource) -> Place:
    """Where the settings of a pod are."""
    metadata = pod["metadata"]
    owner = next(iter(metadata.get("ownerReferences", [])), {"kind": "Pod", "name": metadata["name"]})
    stage = labels_of(pod).get(STAGE_LABEL)
    field = f"spec.compile.template.execution.{stage}" if stage else "spec.serving"
    claims = (volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"].get("volumes", []))
    key = Key(owner["kind"], metadata["namespace"], owner["name"])
    return Place(key, field, next(filter(None, claims), ""))


def _events(warnings: Sequence[Resource]) -> Events:
    """Warnings by the object that they are about, newest first."""
    result: dict[Key, tuple[Warned, ...]] = {}
    for event in sorted(warnings, key=_last_seen, reverse=True):
        about = event.get("involvedObject") or {}
        key = Key(about.get("kind", ""), about.get("namespace", ""), about.get("name", ""))
        result[key] = (*result.get(key, ()), Warned(event.get("reason") or "", event.get("message") or ""))
    return result


def _last_seen(event: Resource) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")
