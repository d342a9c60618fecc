"""Injects a fault, waits for its alert, draws the page, applies the runbook's fix and waits until the alert is gone."""

import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Any

import httpx
from rich.console import Console
from tests.browser.audit import chromium, picture

from subterra_cli.agents.dashboards.draw import draw
from subterra_cli.agents.dashboards.queries import Scope
from subterra_cli.errors import CommandError
from subterra_demo.drill.drill_report import Outcome
from subterra_demo.drill.fault import Action, Fault
from subterra_demo.drill.runbook_page import advice
from subterra_demo.steps import AGENT, NAMESPACE, ROOT, DemoCluster

RUNBOOKS = ROOT / "docs/guides/runbooks.md"
LEAD_SECONDS = 60.0
"""The page also shows this much of the time before the injection."""
WAIT_SECONDS = 600.0
"""How long an alert, its cause on the page, and its end are waited for, each."""
QUIET_SECONDS = 240.0
POLL_SECONDS = 1.0
_SERVED = f'namespace="{NAMESPACE}", agent="{AGENT}"'
HEALTHY = (
    f"sum(subterra_compiledagent_ready_replicas{{{_SERVED}}}) > 0 and on () sum(subterra_leader) == 1 "
    f"and on () min(subterra_serving_vllm_up{{{_SERVED}}}) == 1"
)
"""Has an answer while one operator leads, and each pod of the agent answers."""
COMMAND_SECONDS = 300.0
WIDTHS = {"": 1280, "-phone": 400}
HEIGHTS = {"subterra-fleet": 1500, "subterra-runs": 1400, "subterra-agent": 1700}
TALLER_ON_A_PHONE = 3


class DrillError(Exception):
    """Something of the drill itself failed; the message says what."""


@dataclass(frozen=True)
class Watched:
    """A Prometheus that watches the demo's cluster."""

    url: str

    def firing(self) -> list[Mapping[str, Any]]:
        """Alerts that fire now. Raises DrillError."""
        return [each for each in self._get("alerts", {})["alerts"] if each["state"] == "firing"]

    def alert(self, fault: Fault) -> Mapping[str, Any] | None:
        """The fault's alert, if it fires."""
        wanted = {"alertname": fault.alert, **fault.labels}
        return next((each for each in self.firing() if wanted.items() <= each["labels"].items()), None)

    def has(self, query: str) -> bool:
        """Whether a query has an answer now. Raises DrillError."""
        return bool(self._get("query", {"query": query})["result"])

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        try:
            answer = httpx.get(f"{self.url}/api/v1/{path}", params=dict(parameters), timeout=20).json()
        except (httpx.HTTPError, ValueError) as error:
            raise DrillError(f"{self.url} does not answer: {error}") from None
        if answer["status"] != "success":
            raise DrillError(f"{self.url} refuses {parameters}: {answer.get('error')}")
        return answer["data"]


@dataclass(frozen=True)
class Drill:
    """All faults are injected into one cluster, one after the other."""

    cluster: DemoCluster
    watched: Watched
    console: Console
    folder: Path
    """Where the pages are written."""
    _fixed: set[Action] = field(default_factory=set)
    """What the fix of the present fault has done, which its undo need not repeat."""

    def run(self, fault: Fault) -> Outcome:
        """One fault from injection to repair. Whatever happens, the cluster is left as it was."""
        self.console.rule(f"[bold]{fault.name}", align="left")
        self._say(fault.what)
        self._fixed.clear()
        try:
            return self._find_and_repair(fault)
        except (DrillError, CommandError) as error:
            self._say(f"ended early: {error}")
            return Outcome(fault, trouble="ended early")
        finally:
            self._undo(fault)

    def _find_and_repair(self, fault: Fault) -> Outcome:
        began = time.time()
        for action in fault.inject:
            self.do(action)
        injected = time.time()
        fired = self._wait(lambda: self.watched.alert(fault) is not None, WAIT_SECONDS)
        if fired is None:
            return Outcome(fault, trouble=f"{fault.alert} did not fire within {WAIT_SECONDS:.0f} s")
        fired = time.time() - injected
        shown = self._wait(lambda: self.watched.has(fault.cause), WAIT_SECONDS)
        shown = None if shown is None else time.time() - injected
        self._draw(fault, Scope(began - LEAD_SECONDS, time.time()))
        alert = self.watched.alert(fault)  # by now its words have the reason, too
        self._explain(fault, alert, fired, shown)
        mended = time.time()
        for action in fault.fix:
            self.do(action)
            self._fixed.add(action)
        gone = self._wait(lambda: self.watched.alert(fault) is None, WAIT_SECONDS)
        resolved = None if gone is None else time.time() - mended
        self._say(f"resolved after {resolved:.0f} s" if resolved is not None else "not resolved")
        return Outcome(fault, fired, shown, resolved)

    def _explain(self, fault: Fault, alert: Mapping[str, Any] | None, fired: float, shown: float | None) -> None:
        """What the alert, the page and the runbook say."""
        notes = alert["annotations"] if alert else {}
        self._say(f"{fault.alert} fires after {fired:.0f} s: {notes.get('summary', 'it is gone again')}")
        self._say(f"  {notes.get('description', '')}\n  {notes.get('runbook_url', '')}")
        self._say(f"the page shows it after {shown:.0f} s: {fault.shows}" if shown else f"the page never showed: {fault.shows}")
        for part, words in advice(RUNBOOKS.read_text(encoding="utf-8"), fault.alert).items():
            self._say(f"{part}:\n{indent(words, '  ')}")

    def _draw(self, fault: Fault, scope: Scope) -> None:
        """The dashboard with the cause, as a page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        page = self.folder / f"{fault.name}.html"
        page.write_text(draw([fault.board], self.watched.url, scope)[0], encoding="utf-8")

    def take_pictures(self, fault: Fault) -> None:
        """PNGs of the fault's page, for a desktop and for a phone, where there is a Chromium: at the end, when nobody waits."""
        page = self.folder / f"{fault.name}.html"
        if chromium() is None or not page.exists():
            return
        for suffix, width in WIDTHS.items():
            height = HEIGHTS[fault.board] * (TALLER_ON_A_PHONE if suffix else 1)
            with suppress(subprocess.SubprocessError):  # the page is there all the same
                picture(page, self.folder / f"{fault.name}{suffix}.png", width, height)

    def _undo(self, fault: Fault) -> None:
        for action in fault.undo:
            if action in self._fixed:
                continue
            try:
                self.do(action)
            except DrillError as error:
                self._say(f"while restoring: {error}")
        self.await_health()

    def await_health(self) -> None:
        """Waits until an operator leads, the agent serves and no alert fires; says what is still wrong after that time."""
        if self._wait(lambda: self.watched.has(HEALTHY) and not self.watched.firing(), QUIET_SECONDS) is None:
            names = sorted({each["labels"]["alertname"] for each in self.watched.firing()})
            self._say(f"still firing: {', '.join(names) or 'nothing, but no operator leads or the agent does not answer'}")

    def do(self, action: Action) -> None:
        """Runs a command. Raises DrillError."""
        self._say(f"[dim]$ {action}[/dim]")
        command = self.cluster.kubectl(*action.words)
        try:
            done = subprocess.run(command, input=action.reads, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise DrillError(f"`{action}` has not ended after {COMMAND_SECONDS:.0f} s") from None
        if done.returncode:
            raise DrillError(f"`{action}` failed: {(done.stderr or done.stdout).strip()[-600:]}")

    def _wait(self, is_so: Callable[[], bool], seconds: float) -> float | None:
        """Seconds until it is so; `None` if it is not in time."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if is_so():
                return passed
            time.sleep(POLL_SECONDS)
        return None

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=text.startswith("[dim]"))
