"""Live progress of an agent's compilation from its status: bars on a terminal, lines in a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from subterra_api.v1alpha1.conditions import POD_REASONS, REFUSALS
from subterra_cli.cluster import ClusterAccessError, ResourceReader, get_condition

STAGES = ("generate", "train", "evaluate", "gate", "serve", "price")
PROGRESS_REASONS = ("Compiling", "Starting", "Pending", *(POD_REASONS - REFUSALS))
"""Reasons for not being up to date that resolve without help."""
PATIENCE_SECONDS = 10.0
"""Other reasons have to last this long: the objects of one `kubectl apply` arrive one after another."""
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
    waiting: bool = False
    """Whether it is Running without a pod that runs."""

    def line(self) -> str:
        """The stage as one line of a log."""
        left = f", about {duration(self.eta_seconds)} left" if self.eta_seconds and self.state == "Running" else ""
        return f"{self.name}: {self.state} {self.percent}%{left} {self.message}".rstrip()


def duration(seconds: int) -> str:
    """``75`` as ``1m 15s``."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def stage_views(agent: dict[str, Any], run: dict[str, Any] | None) -> list[StageView]:
    """All six stages, from the statuses of the agent and its current run."""
    known = {stage["name"]: stage for stage in (run or {}).get("status", {}).get("stages", [])}
    stages = [_stage(name, known.get(name, {})) for name in STAGES[:4]]
    serving = agent.get("status", {}).get("serving")
    current = serving and serving.get("run") == agent["status"].get("currentRun")
    stages.append(
        StageView("serve", "Succeeded", 100, message=f"version {serving['version']}") if current else _serve_stage(agent, stages)
    )
    usd = agent.get("status", {}).get("price", {}).get("usdPerConversation")
    waiting = StageView("price", message="measured from the first conversation onward" if current else "")
    stages.append(StageView("price", "Succeeded", 100, message=f"${usd} per conversation") if usd else waiting)
    return stages


def _stage(name: str, status: dict[str, Any]) -> StageView:
    return StageView(
        name,
        status.get("state", "Pending"),
        status.get("percent", 0),
        status.get("etaSeconds"),
        status.get("usd"),
        status.get("message", ""),
        waiting=status.get("state") == "Running" and ("reason" in status or status.get("message", "").startswith("pod pending")),
    )


def _serve_stage(agent: dict[str, Any], stages: list[StageView]) -> StageView:
    if stages[-1].state != "Succeeded":
        return StageView("serve")
    return StageView("serve", "Running", message=get_condition(agent, "Ready").get("message", ""))


def progress_table(title: str, stages: list[StageView], elapsed: float) -> RenderableType:
    """The stages as a table with bars."""
    table = Table.grid(padding=(0, 2))
    for stage in stages:
        left = f"{duration(stage.eta_seconds)} left" if stage.eta_seconds and stage.state == "Running" else ""
        mark, bar = Text.from_markup(_MARKS[stage.state]), ProgressBar(100, stage.percent, width=30)
        message = Text(stage.message, style="dim", overflow="ellipsis", no_wrap=True)
        cost = f"${stage.usd}" if stage.usd else ""
        table.add_row(mark, stage.name, bar, f"{stage.percent:3d}%", left, cost, message)
    return Group(Text(f"{title}  {duration(int(elapsed))}", style="bold"), table)


def watch(
    reader: ResourceReader, name: str, console: Console, *, timeout: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Shows progress until the agent serves its current procedure, for at most ``timeout`` seconds.

    Raises ClusterAccessError when it cannot.
    """
    started, logged, problem_since = clock(), dict[str, str](), None
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while clock() - started < timeout:
            agent = reader.get("compiledagents", name)
            if agent is None:
                raise ClusterAccessError(f"CompiledAgent {name} not found in namespace {reader.target.namespace}; apply it first")
            run_name = agent.get("status", {}).get("currentRun")
            stages = stage_views(agent, reader.get("compileruns", run_name) if run_name else None)
            if console.is_terminal:
                live.update(progress_table(f"CompiledAgent {name}", stages, clock() - started))
            else:
                _log_changes(console, stages, logged, clock() - started)
            if is_served(agent):
                return
            problem_since = (problem_since or clock()) if (problem := blocking_problem(agent)) else None
            if problem_since is not None and clock() - problem_since > PATIENCE_SECONDS:
                raise ClusterAccessError(f"CompiledAgent {name}: {problem}")
            time.sleep(1)
    raise ClusterAccessError(
        f"CompiledAgent {name} is not served after {duration(int(timeout))}; see `kubectl describe compiledagent {name}`"
    )


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
    """Prints a line when a stage changes state, gains ten percent, or waits for another reason or no longer."""
    for stage in stages:
        key = f"{stage.state} {stage.percent // 10} {stage.message if stage.waiting else ''}"
        if stage.state != "Pending" and logged.get(stage.name) != key:
            logged[stage.name] = key
            console.print(f"[{duration(int(elapsed)):>7}] {stage.line()}", highlight=False, markup=False, soft_wrap=True)
