"""Cost of faults: the stage as its Job starts it, with the real SDK and Ray, against the fake Messages API over HTTP.

Each row ends when the dataset is complete, after as many attempts as it takes.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from subterra_api.job_contract.artifacts import artifact_path, lease_path
from subterra_api.job_contract.messages import ExitCode
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.servers.fake_llm_api import (
    CUT,
    NO_CREDIT,
    OVERLOADED,
    RATE_LIMITED,
    FakeLLMApi,
    Fault,
    fake_llm_api,
    outage,
    random_faults,
)

CONVERSATIONS = 120
SECONDS = 0.1
"""Response time of the provider."""
AT = 800
"""Paid calls before the fault."""
KILLS = 20
HEAD = "| fault | exit codes | calls paid | paid duplicate_payments | in flight at the kills | bytes |\n|---|---|---|---|---|---|\n"


@dataclass
class Case:
    """One dataset, written in one or more attempts."""

    folder: Path
    api: FakeLLMApi
    codes: list[int] = field(default_factory=list)
    kills: int = 0
    at_risk: int = 0
    """Calls in flight at the kills, sent and not yet on disk: these may have to be paid twice."""
    lost: int = 0
    """Calls lost at earlier kills."""

    def __post_init__(self) -> None:
        self.run = run_input(self.folder / "store", teacher=PAID, conversations=CONVERSATIONS)
        self.input = self.folder / "input.json"
        self.input.write_text(self.run.model_dump_json(by_alias=True))

    @contextmanager
    def job(self) -> Iterator[subprocess.Popen[bytes]]:
        """One attempt; the one before may have died without releasing its lease."""
        shutil.rmtree(self.folder / "store" / lease_path(self.run.keys.dataset), ignore_errors=True)  # as if the lease had expired
        environment = {"ANTHROPIC_BASE_URL": self.api.url, "ANTHROPIC_API_KEY": "none", "SUBTERRA_TERMINATION_LOG": "/dev/null"}
        command = [sys.executable, "-m", "subterra_jobs.generate", "--input", str(self.input)]
        process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)
        try:
            yield process
            self.codes.append(process.wait(600))
        finally:
            process.kill()
            process.wait()

    def finish(self) -> None:
        """An attempt without faults."""
        with self.job():
            pass

    def until_paid(self, count: int, process: subprocess.Popen[bytes]) -> None:
        """Waits for ``count`` paid calls, or for the end of the attempt."""
        while self.api.paid < count and process.poll() is None:
            time.sleep(0.01)

    def inject(self, number: signal.Signals, *targets: psutil.Process) -> None:
        """Sends a signal to ``targets`` and counts the calls at risk."""
        on_disk = self.on_disk()
        for process in targets:
            process.send_signal(number)
        self.at_risk += self.api.calls - on_disk - self.lost
        self.kills += 1

    def on_disk(self) -> int:
        """Number of responses on disk."""
        return sum(file.read_bytes().count(b"\n") for file in (self.folder / "store" / "turns").rglob("*.jsonl"))

    def wait_until_idle(self) -> None:
        """Waits until orphaned workers have ended: no new calls for two seconds."""
        calls = -1
        while calls != self.api.calls:
            calls = self.api.calls
            time.sleep(2)

    def dataset(self) -> dict[str, bytes]:
        """The dataset's files by name; empty if there is no dataset yet."""
        folder = self.folder / "store" / artifact_path("generate", self.run.keys.dataset)
        return (
            {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"} if folder.exists() else {}
        )


def undisturbed(case: Case) -> None:
    case.finish()


def no_credit(case: Case) -> None:
    case.api.after = (AT, NO_CREDIT)
    case.finish()
    case.api.after = None
    assert case.codes == [ExitCode.PROVIDER_BLOCKED]
    case.finish()


def signalled(number: signal.Signals) -> Callable[[Case], None]:
    """Sends a signal to the job; SIGKILL hits all its processes, as when a container ends."""

    def disturb(case: Case) -> None:
        with case.job() as process:
            case.until_paid(AT, process)
            job = psutil.Process(process.pid)
            targets = [job, *job.children(recursive=True)] if number is signal.SIGKILL else [job]
            case.inject(number, *targets)
        case.wait_until_idle()
        case.finish()

    return disturb


def cut_record(case: Case) -> None:
    with case.job() as process:
        case.until_paid(AT, process)
        process.terminate()
    case.wait_until_idle()
    largest = max((case.folder / "store" / "turns").rglob("*.jsonl"), key=lambda file: file.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) - 100])
    case.finish()


def full_disk(case: Case) -> None:
    """A store on its own small file system. Needs root."""
    store = case.folder / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(store)], check=True)
    try:
        filler = store / "filler"
        with case.job() as process:
            case.until_paid(AT, process)
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"0" * 4096):
                    pass
        filler.unlink(missing_ok=True)
        case.finish()
        files = case.dataset()
    finally:
        subprocess.run(["umount", "-l", str(store)], check=True)
    target = store / artifact_path("generate", case.run.keys.dataset)
    target.mkdir(parents=True)
    for name, content in files.items():
        (target / name).write_bytes(content)


def _workers(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(job.pid).children(recursive=True)
    return [process for process in children if process.name().startswith("ray::LLMWorker")]


def worker_kills(case: Case) -> None:
    rng = random.Random(1)
    with case.job() as process:
        for number in range(KILLS):
            case.until_paid(20 + number * 50 + rng.randrange(50), process)
            if process.poll() is None and (workers := _workers(process)):
                victim = rng.choice(workers)
                case.inject(signal.SIGKILL, victim)
                victim.wait(10)
                case.lost = case.api.calls - case.on_disk()


def script(of: Callable[[FakeLLMApi], Fault | None]) -> Callable[[Case], None]:
    """Faults of the provider."""

    def disturb(case: Case) -> None:
        case.api.script = of
        case.finish()

    return disturb


CASES: dict[str, Callable[[Case], None]] = {
    "none": undisturbed,
    "5 % of the calls 429 or 529": script(random_faults(0.05, RATE_LIMITED, OVERLOADED)),
    "2 % of the connections cut": script(random_faults(0.02, CUT)),
    "20 s of nothing but 429 after 100 calls": script(outage(20, Fault(429, "rate_limit_error", "slow down"), after=100)),
    f"credit used up after {AT} calls": no_credit,
    f"SIGKILL of the job at call {AT}": signalled(signal.SIGKILL),
    f"Ctrl-C at call {AT}": signalled(signal.SIGINT),
    f"SIGTERM at call {AT}": signalled(signal.SIGTERM),
    "a record cut in the middle of a file": cut_record,
    f"disk full at call {AT}": full_disk,
    f"{KILLS} SIGKILLs of workers": worker_kills,
}


def measure(*names: str) -> dict[str, Any]:
    """Prints a row per fault, and returns the figures; ``names`` selects faults."""
    sys.stdout.write(HEAD)
    clean, files, duplicate_payments, same = 0, dict[str, bytes](), dict[str, int](), list[bool]()
    for name, disturb in CASES.items():
        if names and not any(part in name for part in names):
            continue
        with fake_llm_api(FakeLLMApi(seconds=SECONDS)) as api, tempfile.TemporaryDirectory() as folder:
            case = Case(Path(folder), api)
            disturb(case)
            clean, files = clean or api.paid, files or case.dataset()
            duplicate_payments[name] = api.paid - clean
            same.append(bool(files) and case.dataset() == files)
            codes = ", ".join(map(str, case.codes))
            risk = f"{case.at_risk} at {case.kills}" if case.kills else ""
            verdict = "the same" if same[-1] else "DIFFERENT"
            sys.stdout.write(f"| {name} | {codes} | {api.paid:,} | {duplicate_payments[name]} | {risk} | {verdict} |\n")
            sys.stdout.flush()
    return {"twice_paid_calls": duplicate_payments, "datasets_byte_identical": all(same)}


if __name__ == "__main__":
    sys.stdout.write(f"{measure(*sys.argv[1:])}\n")
