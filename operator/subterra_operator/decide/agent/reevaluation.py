"""What serves, evaluated again on demand, with other scenarios: by a run that only evaluates. It tells, and moves no traffic."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from subterra_api.v1alpha1 import REEVALUATE_AT
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import (
    AgentVersion,
    CompiledAgentSpec,
    CompiledAgentStatus,
    Reevaluation,
    ReevaluationRequest,
)
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import POD_REASONS, Reason, Type, timestamp
from subterra_api.v1alpha1.scores import Interval, Scores, Verdict
from subterra_operator.decide.agent.run_history import follow_requests, status_of, supersede
from subterra_operator.decide.decision import ConditionBuilder, Write, find_condition, parse_time
from subterra_operator.decide.retry import RetryRequest
from subterra_operator.labels import annotations_of
from subterra_operator.resources import is_deleting
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.compile_run import applied_to, reevaluation_name, reevaluation_run

SKEW_SECONDS = 60.0
"""How far the clock of who asks may be ahead."""
KEPT = 5
"""Results that are kept of each version."""
CHECK_LENGTH = 200
GROUP = "reevaluation"
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_NOW = f"set the annotation {REEVALUATE_AT} to the current time"
_RANKS = {"Pass": 2, "Inconclusive": 1, "Fail": 0}


@dataclass(frozen=True)
class Reevaluated:
    """The latest re-evaluation, the history with its result, and what to write for it."""

    request: ReevaluationRequest | None
    history: tuple[AgentVersion, ...]
    conditions: tuple[Condition, ...] = ()
    writes: tuple[Write, ...] = ()
    recheck_after: float | None = None

    @property
    def in_progress(self) -> bool:
        """Whether a run evaluates, or will once it can."""
        unfinished = self.request is not None and self.request.ended_at is None
        return unfinished and any(condition.status == "Unknown" for condition in self.conditions)

    def runs_to_delete(self, runs: Sequence[Observed]) -> tuple[Observed, ...]:
        """Runs that evaluated again what nobody asks about any more."""
        needed = {past.run for version in self.history for past in version.reevaluations or ()}
        needed |= {self.request.run} if self.request else set()
        return tuple(run for run in runs if run["metadata"]["name"] not in needed and not is_deleting(run))


def requested_time(text: str) -> datetime | None:
    """A time as the annotation has to have it; `None` for anything else."""
    try:
        return parse_time(text) if _RFC_3339.fullmatch(text) else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Reevaluator:
    """An agent at one moment. ``serving`` and ``history`` are as its new status has them, ``before`` is the recorded one."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    before: CompiledAgentStatus
    serving: AgentVersion | None
    history: tuple[AgentVersion, ...]
    retry: RetryRequest
    make: ConditionBuilder

    def decide(self) -> Reevaluated:
        """What the annotation asks for: the unfinished re-evaluation first, then another if a later time is asked for."""
        asked, latest = annotations_of(self.snapshot.agent).get(REEVALUATE_AT), self.before.reevaluation
        unfinished = latest is not None and latest.ended_at is None
        if asked is None:
            return Reevaluated(None, self.history) if unfinished else self._result(latest)
        at = requested_time(asked)
        if latest is not None and unfinished and not (self._is_given_up(latest) and _is_later(at, latest)):
            return self._follow(latest, "" if at == parse_time(latest.at) else f"; {REEVALUATE_AT} {asked} is looked at afterwards")
        if at is None:
            return self._refuse(f"{REEVALUATE_AT}: {asked} is not a time; {_NOW}, such as {timestamp(self.make.now)}")
        if latest is None or _is_later(at, latest):
            return self._begin(at)
        if at == parse_time(latest.at):
            return self._result(latest)
        return self._refuse(f"{REEVALUATE_AT}: {asked} is not later than the last re-evaluation, of {latest.at}; {_NOW}")

    def _begin(self, at: datetime) -> Reevaluated:
        left = (at - self.make.now).total_seconds()
        if left > SKEW_SECONDS:
            text = f"what serves at {timestamp(at)} is evaluated again then"
            condition = self.make(Type.REEVALUATED, None, Reason.PENDING, text)
            return Reevaluated(self.before.reevaluation, self.history, (condition,), recheck_after=left)
        if (problem := self._problem(at)) or self.serving is None or self.serving.run is None:
            return self._refuse(problem)
        agent, run, asked = self.snapshot.agent["metadata"]["name"], self.serving.run, _exact(at)
        name = reevaluation_name(agent, run, asked)
        return self._follow(ReevaluationRequest(at=asked, run=name, version=self.serving.version, reevaluates=run))

    def _problem(self, at: datetime) -> str:
        """Why what serves cannot be evaluated again, and what to do; empty if it can."""
        serving = self.serving
        if serving is None:
            return f"no version serves, so there is nothing to evaluate again; once one does, {_NOW}"
        if self.spec.compile is None or serving.run is None:
            text = f"version {serving.version} serves spec.model, of which this agent has no run with its procedure and settings"
            return f"{text}; set {REEVALUATE_AT} on the agent that compiled it"
        if self.spec.compile.suspend:
            return f"spec.compile.suspend is set; clear it to evaluate version {serving.version} again"
        if serving.since and at < parse_time(serving.since):
            return f"version {serving.version} serves since {serving.since}, after {timestamp(at)}; to evaluate it again, {_NOW}"
        return ""

    def _refuse(self, problem: str) -> Reevaluated:
        condition = self.make(Type.REEVALUATED, False, Reason.REEVALUATION_REFUSED, problem)
        return Reevaluated(self.before.reevaluation, self.history, (condition,))

    def _run(self, request: ReevaluationRequest) -> tuple[Observed | None, CompileRunStatus]:
        """The run that evaluates, if it is there, and its status."""
        found = next((run for run in self.snapshot.reevaluations if run["metadata"]["name"] == request.run), None)
        return found, status_of(found or {})

    def _is_given_up(self, request: ReevaluationRequest) -> bool:
        """Whether the run will not go on by itself, or there is nothing that it could evaluate."""
        stalled = find_condition(self._run(request)[1].conditions, Type.STALLED)
        gone = self.snapshot.run(request.reevaluates) is None or self.spec.compile is None
        return gone or (stalled is not None and stalled.status == "True")

    def _follow(self, request: ReevaluationRequest, then: str = "") -> Reevaluated:
        """Keeps the run in line with the agent until it has a verdict, which is recorded once."""
        run, status = self._run(request)
        if status.verdict is not None and status.scores is not None:
            return self._finish(request, status.verdict, status.scores, status)
        origin, source = self.snapshot.run(request.reevaluates), self.spec.compile
        if origin is None or source is None:
            stopped = supersede([run], "spec.model") if run and source is None else ()
            writes = tuple(replace(write, group=GROUP) for write in stopped)
            return Reevaluated(request, self.history, (self._impossible(request, origin),), writes)
        desired = reevaluation_run(self.snapshot.agent, self.spec, source, request, origin)
        desired = applied_to(run, desired) if run else desired
        requests = follow_requests(run, self.retry, suspend=source.suspend) if run else ()
        writes = (Write("apply", desired, guard=self.snapshot.agent, group=GROUP), *requests)
        return Reevaluated(request, self.history, (self._progress(request, status, then),), writes)

    def _impossible(self, request: ReevaluationRequest, origin: Observed | None) -> Condition:
        why = f"run {request.reevaluates}, which made it, was deleted with its input" if origin is None else "spec.model is set now"
        text = f"version {request.version} cannot be evaluated again, because {why}; once a version of another run serves, {_NOW}"
        return self.make(Type.REEVALUATED, False, Reason.RUN_NOT_FOUND if origin is None else Reason.REEVALUATION_REFUSED, text)

    def _progress(self, request: ReevaluationRequest, status: CompileRunStatus, then: str) -> Condition:
        """What the unfinished run does, or what stops it."""
        stalled, succeeded = (find_condition(status.conditions, kind) for kind in (Type.STALLED, Type.SUCCEEDED))
        if stalled and stalled.status == "True":
            return self.make(Type.REEVALUATED, False, Reason(stalled.reason), f"run {request.run}: {stalled.message}{then}")
        if succeeded and succeeded.reason in (*POD_REASONS, Reason.SUSPENDED):
            text = f"run {request.run} waits: {succeeded.message}{then}"
            return self.make(Type.REEVALUATED, None, Reason(succeeded.reason), text)
        text = f"run {request.run} evaluates version {request.version} again, with other scenarios{then}"
        return self.make(Type.REEVALUATED, None, Reason.REEVALUATING, text)

    def _finish(self, request: ReevaluationRequest, verdict: Verdict, scores: Scores, status: CompileRunStatus) -> Reevaluated:
        result = Reevaluation(
            at=request.at,
            run=request.run,
            verdict=verdict.result,
            check=verdict.reasons[0][:CHECK_LENGTH] if verdict.reasons else None,
            scenarios=scores.scenarios,
            conformance=scores.conformance,
            failure_rate=scores.failure_rate,
            usd=status.usd,
            report=status.artifacts.report_path,
        )
        history = tuple(_with_result(past, result) if past.version == request.version else past for past in self.history)
        ended = request.model_copy(update={"ended_at": timestamp(self.make.now)})
        return Reevaluated(ended, history, self._conditions(ended, history))

    def _result(self, latest: ReevaluationRequest | None) -> Reevaluated:
        return Reevaluated(latest, self.history, self._conditions(latest, self.history) if latest else ())

    def _conditions(self, ended: ReevaluationRequest, history: Sequence[AgentVersion]) -> tuple[Condition, ...]:
        """The result, as long as the version serves that it is about."""
        known = (past for version in history if version.version == ended.version for past in version.reevaluations or ())
        result = next((past for past in known if past.at == ended.at), None)
        if result is None or self.serving is None or self.serving.version != ended.version:
            return ()
        origin = self.snapshot.run(ended.reevaluates)
        promoted = status_of(origin).verdict if origin else None
        had = f"had the verdict {promoted.result} in" if promoted else "is of the deleted"
        text = f"version {ended.version} {had} run {ended.reevaluates}; evaluated again: {_numbers(result)}"
        if _RANKS[result.verdict] >= _RANKS[promoted.result if promoted else "Pass"]:
            return (self.make(Type.REEVALUATED, True, Reason.VERDICT_CONFIRMED, text),)
        text += f"; it goes on serving: read `subterra report {result.run}`, then {self._cure(result)}"
        reason = Reason.VERDICT_WORSENED if result.verdict == "Fail" else Reason.VERDICT_UNCERTAIN
        return (self.make(Type.REEVALUATED, True, reason, text),)

    def _cure(self, result: Reevaluation) -> str:
        agent = self.snapshot.agent["metadata"]["name"]
        if result.verdict == "Fail":
            return f"go back with `subterra rollback {agent}`, or set spec.promotion.pin"
        return f"remove what makes it inconclusive, and ask again with `subterra reevaluate {agent}`"


def _exact(at: datetime) -> str:
    """The same text for every way to write a time, whatever its zone; fractions of a second tell two requests apart."""
    return at.isoformat().replace("+00:00", "Z")


def _is_later(at: datetime | None, latest: ReevaluationRequest) -> bool:
    return at is not None and at > parse_time(latest.at)


def _with_result(version: AgentVersion, result: Reevaluation) -> AgentVersion:
    others = tuple(past for past in version.reevaluations or () if past.at != result.at)
    return version.model_copy(update={"reevaluations": (result, *others)[:KEPT]})


def _numbers(result: Reevaluation) -> str:
    """Such as `Fail in 300 other scenarios (…), conformance 71% (66% to 76%), failures 9% (6% to 13%), $1.20`."""
    check = f" ({result.check})" if result.check and result.verdict != "Pass" else ""
    shares = f"conformance {_share(result.conformance)}, failures {_share(result.failure_rate)}"
    cost = f", ${result.usd}" if result.usd else ""
    return f"{result.verdict} in {result.scenarios} other scenarios{check}, {shares}{cost}"


def _share(interval: Interval) -> str:
    return f"{interval.mean:.0%} ({interval.low:.0%} to {interval.high:.0%})"
