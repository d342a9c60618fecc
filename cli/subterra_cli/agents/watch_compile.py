"""Live progress of an agent's compilation from its status: bars on a terminal, lines in a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from subterra_api.v1alpha1.conditions import POD_REASONS, REFUSALS, Reason
from subterra_cli.cluster import ClusterAccessError, ResourceReader, get_condition

STAGES = ("generate", "train", "evaluate", "gate", "serve", "price")
PROGRESS_REASONS = ("Compiling", "Starting", "Pending", *(POD_REASONS - REFUSALS))
"""Reasons for not being up to date that resolve without help."""
PATIENCE_SECONDS = 10.0
"""Other reasons have to last this long: the objects of one `kubectl apply` arrive one after another."""
QUIET_SECONDS = 60.0
"""After this long without news it is said how old the last news is. Progress is written every 15 s, heartbeats every 20 s."""
HEARTBEAT_SECONDS = 15.0
_MARKS = {"Succeeded": "[green]✔", "Failed": "[red]✘", "Running": "[cyan]▶", "Pending": "[dim]·"}


@dataclass(frozen=True)
class StageView:
    """One row of the progress table."""

    name: str
    state: str = "Pending"
    percent: int = 0
    eta_seconds: int | None = None
    usd: str | None = None
    message: str = ""
    starting: bool = False
    """Whether its pod has not started yet; the message may be about the scheduler's first look, which means nothing."""
    waiting: bool = False
    """Whether its pod has been waiting long enough that the operator gives a reason."""
    unheard: str = ""
    """How long no progress has been heard, if that is long; the rest is as old."""

    def line(self) -> str:
        """The stage as one line of a log."""
        left = f", about {duration(self.eta_seconds)} left" if self.eta_seconds and self.state == "Running" else ""
        return f"{self.name}: {self.state} {self.percent}%{left} {'' if self.starting else self.note}".rstrip()

    @property
    def note(self) -> str:
        """The message, after how old it is."""
        return "; ".join(filter(None, (self.unheard, self.message)))


def duration(seconds: int) -> str:
    """``75`` as ``1m 15s``."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def age(seconds: float) -> str:
    """A long time without its smaller units, as in ``12 min``."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def reevaluating(agent: dict[str, Any]) -> str | None:
    """The run that evaluates what serves again at present; `None` without one that goes on by itself."""
    request = agent.get("status", {}).get("reevaluation") or {}
    in_progress = request and "endedAt" not in request and get_condition(agent, "Reevaluated").get("status") == "Unknown"
    return str(request["run"]) if in_progress else None


def reevaluation_views(run: dict[str, Any] | None, now: datetime | None = None) -> list[StageView]:
    """The stages of a run that only evaluates."""
    known = {stage["name"]: stage for stage in (run or {}).get("status", {}).get("stages", [])}
    return [_stage(name, known.get(name, {}), now) for name in ("evaluate", "gate")]


def stage_views(agent: dict[str, Any], run: dict[str, Any] | None, now: datetime | None = None) -> list[StageView]:
    """All six stages, from the statuses of the agent and its current run; with ``now`` also how long nothing has been heard."""
    known = {stage["name"]: stage for stage in (run or {}).get("status", {}).get("stages", [])}
    stages = [_stage(name, known.get(name, {}), now) for name in STAGES[:4]]
    serving = agent.get("status", {}).get("serving")
    current = serving and serving.get("run") == agent["status"].get("currentRun")
    stages.append(
        StageView("serve", "Succeeded", 100, message=f"version {serving['version']}") if current else _serve_stage(agent, stages)
    )
    usd = agent.get("status", {}).get("price", {}).get("usdPerConversation")
    waiting = StageView("price", message="measured from the first conversation onward" if current else "")
    stages.append(StageView("price", "Succeeded", 100, message=f"${usd} per conversation") if usd else waiting)
    return stages


def _stage(name: str, status: dict[str, Any], now: datetime | None) -> StageView:
    return StageView(
        name,
        status.get("state", "Pending"),
        status.get("percent", 0),
        status.get("etaSeconds"),
        status.get("usd"),
        status.get("message", ""),
        unheard=_unheard(status, now) if now else "",
        starting="reason" not in status and status.get("message", "").startswith("pod pending"),
        waiting=status.get("state") == "Running" and "reason" in status,
    )


def _unheard(status: dict[str, Any], now: datetime) -> str:
    """How long a running stage has not been heard; empty while it is heard, and while its message says why it does not run."""
    since = status.get("reportedAt") or (None if status.get("message") else status.get("startedAt"))
    if status.get("state") != "Running" or not since:
        return ""
    seconds = (now - datetime.fromisoformat(since)).total_seconds()
    return f"no progress heard for {age(seconds)}" if seconds > QUIET_SECONDS else ""


def _serve_stage(agent: dict[str, Any], stages: list[StageView]) -> StageView:
    if stages[-1].state != "Succeeded":
        return StageView("serve")
    return StageView("serve", "Running", message=get_condition(agent, "Ready").get("message", ""))


def progress_table(title: str, stages: list[StageView], elapsed: float, warning: str = "") -> RenderableType:
    """The stages as a table with bars, and a warning below it."""
    table = Table.grid(padding=(0, 2))
    for stage in stages:
        left = f"{duration(stage.eta_seconds)} left" if stage.eta_seconds and stage.state == "Running" else ""
        mark, bar = Text.from_markup(_MARKS[stage.state]), ProgressBar(100, stage.percent, width=30)
        message = Text(stage.note, style="dim", overflow="ellipsis", no_wrap=True)
        cost = f"${stage.usd}" if stage.usd else ""
        table.add_row(mark, stage.name, bar, f"{stage.percent:3d}%", left, cost, message)
    warnings = [Text(warning, style="yellow")] if warning else []
    return Group(Text(f"{title}  {duration(int(elapsed))}", style="bold"), table, *warnings)


class OperatorWatch:
    """Says when the operator has not been heard, as far as the user may know."""

    def __init__(self, reader: ResourceReader, clock: Callable[[], float]) -> None:
        self._reader, self._clock = reader, clock
        self._due = float("-inf")
        self._beat: datetime | None = None

    def warning(self) -> str:
        """A sentence if its last heartbeat is old, else empty. Asks the API server every `HEARTBEAT_SECONDS`."""
        if self._clock() >= self._due:
            self._due, self._beat = self._clock() + HEARTBEAT_SECONDS, self._reader.last_heartbeat()
        silence = (self._reader.now() - self._beat).total_seconds() if self._beat else 0.0
        if silence <= QUIET_SECONDS:
            return ""
        return f"the operator was last heard {age(silence)} ago, so this may be out of date; check its pod"


def watch(
    reader: ResourceReader, name: str, console: Console, *, timeout: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Shows progress until the agent serves its current procedure, and is not evaluated again, for at most ``timeout`` seconds.

    Raises ClusterAccessError when it cannot, or when what serves turned out to be worse than its verdict.
    """
    started, logged, problem_since = clock(), dict[str, str](), None
    again: str | None = None
    operator = OperatorWatch(reader, clock)
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while clock() - started < timeout:
            agent = reader.get("compiledagents", name)
            if agent is None:
                raise ClusterAccessError(f"CompiledAgent {name} not found in namespace {reader.target.namespace}; apply it first")
            before, again = again, reevaluating(agent) if is_served(agent) else None
            stages = _stages(reader, agent, again)
            warning = operator.warning()
            if console.is_terminal:
                live.update(progress_table(f"CompiledAgent {name}", stages, clock() - started, warning))
            else:
                _log_changes(console, stages, logged, clock() - started)
                _log_operator(console, warning, logged, clock() - started)
            if is_served(agent) and not again:
                _tell_result(console, agent, before)
                return
            problem_since = (problem_since or clock()) if (problem := blocking_problem(agent)) else None
            if problem_since is not None and clock() - problem_since > PATIENCE_SECONDS:
                raise ClusterAccessError(f"CompiledAgent {name}: {problem}")
            time.sleep(1)
    raise ClusterAccessError(
        f"CompiledAgent {name} is not served after {duration(int(timeout))}; see `kubectl describe compiledagent {name}`"
    )


def _stages(reader: ResourceReader, agent: dict[str, Any], reevaluation: str | None) -> list[StageView]:
    """The stages of the run that evaluates again, else of the agent's current run."""
    name = reevaluation or agent.get("status", {}).get("currentRun")
    run = reader.get("compileruns", name) if name else None
    return reevaluation_views(run, reader.now()) if reevaluation else stage_views(agent, run, reader.now())


def _tell_result(console: Console, agent: dict[str, Any], reevaluation: str | None) -> None:
    """Prints what a re-evaluation that was followed has found. Raises ClusterAccessError if it found nothing, or worse."""
    result = get_condition(agent, "Reevaluated")
    if reevaluation is None or not result:
        return
    if result["reason"] != Reason.VERDICT_CONFIRMED:
        raise ClusterAccessError(f"CompiledAgent {agent['metadata']['name']}: {result['reason']}: {result['message']}")
    console.print(result["message"], highlight=False, markup=False, soft_wrap=True)


def is_served(agent: dict[str, Any]) -> bool:
    """Whether the agent serves its current procedure and spec."""
    current = agent["metadata"]["generation"] == agent.get("status", {}).get("observedGeneration")
    return bool(current and all(get_condition(agent, kind).get("status") == "True" for kind in ("Ready", "UpToDate")))


def blocking_problem(agent: dict[str, Any]) -> str | None:
    """What stops the compilation until a person acts; `None` while it makes progress."""
    up_to_date = get_condition(agent, "UpToDate")
    in_progress = up_to_date.get("status") in (None, "True") or up_to_date.get("reason") in PROGRESS_REASONS
    return None if in_progress else f"{up_to_date['reason']}: {up_to_date['message']}"


def _log_changes(console: Console, stages: list[StageView], logged: dict[str, str], elapsed: float) -> None:
    """Prints a line when a stage changes state, gains ten percent, waits for another reason or no longer, or is not heard."""
    for stage in stages:
        key = f"{stage.state} {stage.percent // 10} {stage.message if stage.waiting else ''} {bool(stage.unheard)}"
        if stage.state != "Pending" and logged.get(stage.name) != key:
            logged[stage.name] = key
            console.print(f"[{duration(int(elapsed)):>7}] {stage.line()}", highlight=False, markup=False, soft_wrap=True)


def _log_operator(console: Console, warning: str, logged: dict[str, str], elapsed: float) -> None:
    """Prints a line when the operator is not heard any more or heard again."""
    if bool(warning) != bool(logged.get("operator")):
        logged["operator"] = warning
        line = warning or "the operator is heard again"
        console.print(f"[{duration(int(elapsed)):>7}] {line}", highlight=False, markup=False, soft_wrap=True)
