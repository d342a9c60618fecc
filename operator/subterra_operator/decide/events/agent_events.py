"""Events of a CompiledAgent: which run it follows, what keeps it from being up to date, which version has the traffic."""

from collections.abc import Iterator

from subterra_api.digest import short
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import AgentVersion, CompiledAgentStatus
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_operator.decide.agent.candidate import starting_message
from subterra_operator.decide.decision import find_condition
from subterra_operator.decide.events.event import Event, EventReason, normal, warning
from subterra_operator.decide.events.run_events import verdict_event
from subterra_operator.decide.run.status import VERDICTS

EXPECTED = {
    Reason.COMPILING: "Compile",
    Reason.SUSPENDED: "Suspend",
    Reason.AWAITING_TRIGGER: "Compile",
    Reason.AWAITING_APPROVAL: "Promote",
    Reason.PINNED: "Promote",
    Reason.STARTING: "RollOut",
    Reason.CANARY: "RollOut",
    Reason.SCALED_TO_ZERO: "RollOut",
    Reason.UP_TO_DATE: "Serve",
}
"""Reasons that work in progress or a person's choice explains, with the action; any other reason is a problem."""
RESTATED = (
    Reason.AWAITING_APPROVAL,
    Reason.AWAITING_TRIGGER,
    Reason.INVALID_SPEC,
    Reason.INVALID_PROCEDURE,
    Reason.COMPILE_FAILED,
    Reason.GATE_FAILED,
    Reason.GATE_INCONCLUSIVE,
    Reason.SERVING_FAILED,
    Reason.CANARY,
    Reason.CANARY_BLOCKED,
    Reason.CANARY_ABORTED,
)
"""Reasons whose message is an Event of its own when it changes, because it asks a person for something else then."""

_MOVED = (EventReason.TRAFFIC_MOVED, EventReason.ROLLED_BACK)
IMPLIED_BY: dict[str, tuple[str, ...]] = {
    Reason.COMPILING: (EventReason.RUN_CREATED, EventReason.RESUMED),
    Reason.SERVING: _MOVED,
    EventReason.RECOVERED: (*_MOVED, EventReason.RESUMED, Reason.SERVING),
}
"""Reasons that need no Event of their own if there is one of these for the same change."""


def agent_events(old: CompiledAgentStatus, new: CompiledAgentStatus) -> list[Event]:
    """Events of one change of a CompiledAgent's status; of several with one reason the first."""
    events: dict[str, Event] = {}
    for part in (
        _run_followed,
        _resumed,
        _verdict,
        _traffic,
        _up_to_date,
        _readiness,
        _stalled,
        _drifting,
        _reevaluated,
        _exported,
        _inference_pool,
    ):
        for event in part(old, new):
            if not _is_implied(event, events):
                events.setdefault(event.reason, event)
    return list(events.values())


def _is_implied(event: Event, events: dict[str, Event]) -> bool:
    """Whether an earlier Event of the same change says it already."""
    return any(reason in events for reason in IMPLIED_BY.get(event.reason, ()))


def _run_followed(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Another run became the wanted one: created, or there already."""
    run, state = new.current_run, find_condition(new.conditions, Type.UP_TO_DATE)
    if not run or run == old.current_run or state is None:
        return
    verdict = new.candidate.verdict if new.candidate else None
    inputs, replaced = f"procedure {short(new.procedure_digest or '')}", _replaced(old)
    if verdict:
        text = f"run {run} had compiled {inputs} before, with the verdict {verdict.result}; nothing is paid again{replaced}"
        yield normal(EventReason.RUN_REUSED, "Compile", text)
    elif starting_message(run) in state.message:
        yield normal(EventReason.RUN_CREATED, "Compile", f"run {run} compiles {inputs}{replaced}")
    elif state.reason == Reason.COMPILING:
        text = f"run {run} compiles {inputs}; the work that it has finished is kept{replaced}"
        yield normal(Reason.COMPILING, "Compile", text)


def _replaced(old: CompiledAgentStatus) -> str:
    """Which unfinished run is superseded."""
    state = find_condition(old.conditions, Type.UP_TO_DATE)
    unfinished = old.current_run and state and state.reason in (Reason.COMPILING, Reason.SUSPENDED)
    return f"; run {old.current_run} is superseded and keeps its finished work" if unfinished else ""


def _resumed(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    before, after = _conditions(Type.UP_TO_DATE, old, new)
    if before and after and before.reason == Reason.SUSPENDED and after.reason != Reason.SUSPENDED:
        yield normal(EventReason.RESUMED, "Resume", f"no longer suspended: {after.message}")


def _up_to_date(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Why the agent is, or is not, up to date."""
    before, after = _conditions(Type.UP_TO_DATE, old, new)
    if after is None or after.reason == Reason.PENDING:
        return
    restated = before is not None and before.message != after.message and after.reason in RESTATED
    restarted = after.reason == Reason.STARTING and _version(old) != _version(new)
    waits = after.reason == Reason.PROCEDURE_NOT_FOUND and _is_true(
        new, Type.RECONCILING
    )  # files of one commit arrive in any order
    if (before is None or before.reason != after.reason or restated or restarted) and not waits:
        stuck = after.reason not in EXPECTED or (after.reason == Reason.PINNED and _is_true(new, Type.STALLED))
        yield (warning if stuck else normal)(after.reason, _action(after.reason), after.message)


def _action(reason: str) -> str:
    if reason == Reason.DRIFTED:
        return "Serve"
    return EXPECTED[Reason(reason)] if reason in EXPECTED else "Compile"


def _version(status: CompiledAgentStatus) -> str | None:
    return status.candidate.version if status.candidate else None


def _verdict(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """A verdict on the run that was the wanted one already, unless it is the reason for not being up to date."""
    before, after = old.candidate, new.candidate
    if before is None or after is None or after.verdict is None or before.run != after.run:
        return
    state, result = find_condition(new.conditions, Type.UP_TO_DATE), after.verdict.result
    known = before.verdict is not None and before.verdict.result == result
    if not known and (state is None or state.reason != VERDICTS[result]):
        yield verdict_event(result, f"run {after.run}: {'; '.join(after.verdict.reasons)}")


def _traffic(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Traffic goes to another version than before."""
    serving = new.serving
    if serving is None or (old.serving and old.serving.version == serving.version):
        return
    last = old.serving or next(iter(old.history), None)
    if last is None or last.version == serving.version:
        yield normal(Reason.SERVING, "Serve", f"traffic goes to {_named(serving)}")
        return
    again = any(version.version == serving.version for version in old.history)
    state = find_condition(new.conditions, Type.UP_TO_DATE)
    if again and state and state.reason == Reason.PINNED:
        text = f"traffic moved back from version {last.version} to {_named(serving)}"
        yield normal(EventReason.ROLLED_BACK, "MoveTraffic", text)
        return
    text = f"traffic moved from version {last.version} to {_named(serving)}{', which has served before' if again else ''}"
    if serving.restart_at and serving.restart_at != last.restart_at and serving.model_digest == last.model_digest:
        text += f", restarted because spec.serving.restartAt is {serving.restart_at}"
    yield normal(EventReason.TRAFFIC_MOVED, "MoveTraffic", text)


def _named(version: AgentVersion) -> str:
    of = f" of run {version.run}" if version.run else ""
    return f"version {version.version}{of} (model {short(version.model_digest)})"


def _readiness(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Replicas became ready, or none is left, or none is wanted any more."""
    before, after = _conditions(Type.READY, old, new)
    if before is None or after is None:
        return
    chosen = Reason.SCALED_TO_ZERO in (before.reason, after.reason) and before.reason != after.reason
    if chosen and new.serving and new.serving == old.serving:
        yield normal(after.reason, "Serve", after.message)
        return
    if after.status == "True" and before.status != "True":
        yield normal(after.reason, "Serve", after.message)
    elif after.status != "True" and (before.status == "True" or (new.serving and before.reason != after.reason)):
        yield warning(after.reason, "Serve", after.message)


def _stalled(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Nothing serves and a person has to act; or that is over."""
    before, after = _conditions(Type.STALLED, old, new)
    was, stalled = (condition is not None and condition.status == "True" for condition in (before, after))
    if after and stalled and after.reason not in EXPECTED and not (was and before and before.reason == after.reason):
        late = "not ready in time, a person has to act: " if after.reason == Reason.NOT_SERVING else ""
        yield warning(after.reason, "Serve", f"{late}{after.message}")
    elif before and was and not stalled and before.reason not in EXPECTED:
        yield normal(EventReason.RECOVERED, "Resume", f"no longer stalled by {before.reason}")


def _drifting(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Served conversations became worse than evaluated, in another way than before; or are no longer."""
    before, after = _conditions(Type.DRIFTING, old, new)
    if after is not None and (before is None or before.reason != after.reason):
        yield warning(after.reason, "Serve", after.message)
    elif before is not None and after is None:
        yield normal(EventReason.RECOVERED, "Serve", "served conversations are no longer worse than evaluated")


def _reevaluated(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """A re-evaluation began, was refused, stopped, or said whether what serves is as good as its verdict."""
    before, after = _conditions(Type.REEVALUATED, old, new)
    if after is None:
        if before is not None and before.status == "Unknown" and new.reevaluation is None:
            text = "not evaluated any further, because nobody asks for it now; what was paid is kept"
            yield normal(EventReason.REEVALUATION_STOPPED, "Evaluate", text)
        return
    ended = new.reevaluation.ended_at if new.reevaluation else None
    restated = before is None or (before.reason, before.message) != (after.reason, after.message)
    if after.status == "True" and ended and (old.reevaluation is None or old.reevaluation.ended_at != ended):
        yield (normal if after.reason == Reason.VERDICT_CONFIRMED else warning)(Type.REEVALUATED, "Evaluate", after.message)
    elif after.status == "False" and restated:
        yield warning(after.reason, "Evaluate", after.message)
    elif after.status == "Unknown" and restated and (before is None or before.reason != after.reason):
        yield normal(after.reason, "Evaluate", after.message)


def _exported(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """A model is in the registry, or could not be pushed."""
    before, after = _conditions(Type.EXPORTED, old, new)
    if after is None or (before is not None and before.message == after.message):
        return
    if after.reason in (Reason.EXPORTED, Reason.EXPORT_FAILED):
        yield (normal if after.reason == Reason.EXPORTED else warning)(after.reason, "Export", after.message)


def _inference_pool(old: CompiledAgentStatus, new: CompiledAgentStatus) -> Iterator[Event]:
    """Requests through the InferencePool do not reach the agent, for another reason than before; or they do again."""
    before, after = _conditions(Type.INFERENCE_POOL_READY, old, new)
    if after is None or (before is not None and (before.status, before.message) == (after.status, after.message)):
        return
    if after.status == "False":
        yield warning(after.reason, "Serve", after.message)
    elif after.status == "True" and (before is None or before.status != "True"):
        yield normal(after.reason, "Serve", after.message)


def _conditions(kind: Type, old: CompiledAgentStatus, new: CompiledAgentStatus) -> tuple[Condition | None, Condition | None]:
    return find_condition(old.conditions, kind), find_condition(new.conditions, kind)


def _is_true(status: CompiledAgentStatus, kind: Type) -> bool:
    found = find_condition(status.conditions, kind)
    return found is not None and found.status == "True"
