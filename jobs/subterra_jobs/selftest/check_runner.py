"""Runs checks, each in a process of its own: an engine that crashes or hangs ends only its own check."""

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

TIMEOUT_SECONDS = 900
RESULT_FILE = "result.json"
DETAIL_LIMIT = 300


class NotApplicableError(Exception):
    """A check that this machine cannot take; the message says why."""


@dataclass(frozen=True)
class CheckRequest:
    """What a check works with."""

    gpus: int
    """GPUs that must be visible; 0 if none was asked for."""
    work: Path
    """A folder that all checks share."""


Check = Callable[[CheckRequest], str]
"""Returns what was found, or raises what is wrong."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check."""

    name: str
    state: Literal["ok", "failed", "skipped"]
    seconds: float
    detail: str


def run_checks(names: Sequence[str], gpus: int, work: Path) -> list[CheckResult]:
    """The results of the checks, in order; their output goes to stderr."""
    return [_run(name, gpus, work) for name in names]


def _run(name: str, gpus: int, work: Path) -> CheckResult:
    command = [sys.executable, "-m", "subterra_jobs.selftest", "--alone", "--gpus", str(gpus), "--work", str(work), name]
    (work / RESULT_FILE).unlink(missing_ok=True)
    started = time.monotonic()
    try:
        code = subprocess.run(command, stdout=sys.stderr, timeout=TIMEOUT_SECONDS, check=False).returncode
        ended = f"its process ended with exit code {code} and said nothing; see the output above"
    except subprocess.TimeoutExpired:
        ended = f"not done within {TIMEOUT_SECONDS} s"
    seconds = round(time.monotonic() - started, 1)
    try:
        found = json.loads((work / RESULT_FILE).read_text())
    except FileNotFoundError:
        found = {"state": "failed", "detail": ended}
    return CheckResult(name, found["state"], seconds, found["detail"])


def run_alone(check: Check, gpus: int, work: Path) -> int:
    """Runs one check in this process and leaves its outcome in a file. Returns the exit code."""
    try:
        outcome = CheckResult("", "ok", 0, check(CheckRequest(gpus, work)))
    except NotApplicableError as reason:
        outcome = CheckResult("", "skipped", 0, str(reason))
    except Exception as error:
        traceback.print_exc()
        words = " ".join(str(error).split()) or type(error).__name__
        outcome = CheckResult("", "failed", 0, words if len(words) <= DETAIL_LIMIT else f"…{words[1 - DETAIL_LIMIT :]}")
    (work / RESULT_FILE).write_text(json.dumps(asdict(outcome)))
    return int(outcome.state == "failed")


def table(results: Sequence[CheckResult]) -> str:
    """The results as text, a line each."""
    rows = [("CHECK", "RESULT", "SECONDS", "DETAIL")]
    rows += [(result.name, result.state, f"{result.seconds:.1f}", result.detail) for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(f"{name:<{widths[0]}}  {state:<{widths[1]}}  {time:>{widths[2]}}  {text}\n" for name, state, time, text in rows)
