"""Live progress of an agent's compilation: what the status says, as bars on a terminal and as lines in a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from subterra_cli.cluster import ClusterError, Reader, condition

STAGES = ("generate", "train", "evaluate", "gate", "serve", "price")
WORKING = ("Compiling", "Starting", "Pending")
"""Reasons for not being up to date that pass by themselves."""
PATIENCE_SECONDS = 10.0
"""Other reasons are believed only after a while: files of one `kubectl apply` arrive one after the other."""
_MARKS = {"Succeeded": "[green]✔", "Failed": "[red]✘", "Running": "[cyan]▶", "Pending": "[dim]·"}


@dataclass(frozen=True)
class StageView:
    """One line of the picture."""

    name: str
    state: str = "Pending"
    percent: int = 0
    eta_seconds: int | None = None
    usd: str | None = None
    message: str = ""

    def line(self) -> str:
        """The stage as one line of a log."""
        left = f", about {duration(self.eta_seconds)} left" if self.eta_seconds and self.state == "Running" else ""
        return f"{self.name}: {self.state} {self.percent}%{left} {self.message}".rstrip()


def duration(seconds: int) -> str:
    """``75`` as ``1m 15s``."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def view(agent: dict[str, Any], run: dict[str, Any] | None) -> list[StageView]:
    """All six stages, from the statuses of the agent and of its current run."""
    known = {stage["name"]: stage for stage in (run or {}).get("status", {}).get("stages", [])}
    stages = [_stage(name, known.get(name, {})) for name in STAGES[:4]]
    serving = agent.get("status", {}).get("serving")
    current = serving and serving.get("run") == agent["status"].get("currentRun")
    stages.append(
        StageView("serve", "Succeeded", 100, message=f"version {serving['version']}") if current else _starting(agent, stages)
    )
    usd = agent.get("status", {}).get("price", {}).get("usdPerConversation")
    waiting = StageView("price", message="measured from the first conversation on" if current else "")
    stages.append(StageView("price", "Succeeded", 100, message=f"${usd} per conversation") if usd else waiting)
    return stages


def _stage(name: str, status: dict[str, Any]) -> StageView:
    return StageView(
        name, status.get("state", "Pending"), status.get("percent", 0), status.get("etaSeconds"), status.get("usd"),
        status.get("message", ""),
    )  # fmt: skip


def _starting(agent: dict[str, Any], stages: list[StageView]) -> StageView:
    if stages[-1].state != "Succeeded":
        return StageView("serve")
    return StageView("serve", "Running", message=condition(agent, "Ready").get("message", ""))


def picture(title: str, stages: list[StageView], elapsed: float) -> RenderableType:
    """The stages as a table with bars."""
    table = Table.grid(padding=(0, 2))
    for stage in stages:
        left = f"{duration(stage.eta_seconds)} left" if stage.eta_seconds and stage.state == "Running" else ""
        table.add_row(
            Text.from_markup(_MARKS[stage.state]), stage.name, ProgressBar(100, stage.percent, width=30), f"{stage.percent:3d}%",
            left, f"${stage.usd}" if stage.usd else "", Text(stage.message, style="dim", overflow="ellipsis", no_wrap=True),
        )  # fmt: skip
    return Group(Text(f"{title}  {duration(int(elapsed))}", style="bold"), table)


def watch(reader: Reader, name: str, console: Console, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Shows progress until the agent serves what its procedure says. Raises ClusterError when it cannot.

    ``timeout`` is in seconds.
    """
    started, seen, trouble_since = clock(), dict[str, str](), None
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while clock() - started < timeout:
            agent = reader.get("compiledagents", name)
            if agent is None:
                raise ClusterError(f"there is no CompiledAgent {name} in namespace {reader.target.namespace}; apply one first")
            run_name = agent.get("status", {}).get("currentRun")
            stages = view(agent, reader.get("compileruns", run_name) if run_name else None)
            if console.is_terminal:
                live.update(picture(f"CompiledAgent {name}", stages, clock() - started))
            else:
                _log_changes(console, stages, seen, clock() - started)
            if served(agent):
                return
            trouble_since = (trouble_since or clock()) if (problem := trouble(agent)) else None
            if trouble_since is not None and clock() - trouble_since > PATIENCE_SECONDS:
                raise ClusterError(f"{name}: {problem}")
            time.sleep(1)
    raise ClusterError(f"{name} is not served after {duration(int(timeout))}; see `kubectl describe compiledagent {name}`")


def served(agent: dict[str, Any]) -> bool:
    """Whether the agent serves what its procedure and its spec say now."""
    current = agent["metadata"]["generation"] == agent.get("status", {}).get("observedGeneration")
    return bool(current and all(condition(agent, kind).get("status") == "True" for kind in ("Ready", "UpToDate")))


def trouble(agent: dict[str, Any]) -> str | None:
    """What keeps the agent from getting there unless a person helps; none while it is on its way."""
    found = condition(agent, "UpToDate")
    on_its_way = found.get("status") in (None, "True") or found.get("reason") in WORKING
    return None if on_its_way else f"{found['reason']}: {found['message']}"


def _log_changes(console: Console, stages: list[StageView], seen: dict[str, str], elapsed: float) -> None:
    """One line whenever a stage changes state or gains ten percent: a log is read later."""
    for stage in stages:
        key = f"{stage.state} {stage.percent // 10}"
        if stage.state != "Pending" and seen.get(stage.name) != key:
            seen[stage.name] = key
            console.print(f"[{duration(int(elapsed)):>7}] {stage.line()}", highlight=False, markup=False, soft_wrap=True)
