"""What faults cost: the stage as its Job starts it, real SDK and Ray, against the fake Messages API over HTTP.

Each row ends when the dataset is there, after as many attempts as that takes.
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
from subterra_testkit.fake_llm_api import CUT, NO_CREDIT, OVERLOADED, RATE_LIMITED, Fault, MessagesApi, messages_api, outage, some
from subterra_testkit.generation_inputs import PAID, run_input

CONVERSATIONS = 120
SECONDS = 0.1
"""Until the provider answers."""
AT = 800
"""Paid calls until the fault."""
KILLS = 20
HEAD = "| fault | exit codes | calls paid | paid twice | in flight at the kills | bytes |\n|---|---|---|---|---|---|\n"


@dataclass
class Case:
    """One dataset, attempt after attempt."""

    folder: Path
    api: MessagesApi
    codes: list[int] = field(default_factory=list)
    kills: int = 0
    at_risk: int = 0
    """Calls in flight at the kills, asked and not yet on disk: what may have to be paid twice."""
    lost: int = 0
    """Of earlier kills."""

    def __post_init__(self) -> None:
        self.run = run_input(self.folder / "store", teacher=PAID, conversations=CONVERSATIONS)
        self.input = self.folder / "input.json"
        self.input.write_text(self.run.model_dump_json(by_alias=True))

    @contextmanager
    def job(self) -> Iterator[subprocess.Popen[bytes]]:
        """One attempt; the one before it may be dead without having said so."""
        shutil.rmtree(self.folder / "store" / lease_path(self.run.keys.dataset), ignore_errors=True)  # as if a minute had passed
        told = {"ANTHROPIC_BASE_URL": self.api.url, "ANTHROPIC_API_KEY": "none", "SUBTERRA_TERMINATION_LOG": "/dev/null"}
        command = [sys.executable, "-m", "subterra_jobs.generate", "--input", str(self.input)]
        process = subprocess.Popen(command, env=os.environ | told, stderr=subprocess.DEVNULL)
        try:
            yield process
            self.codes.append(process.wait(600))
        finally:
            process.kill()
            process.wait()

    def finish(self) -> None:
        """An attempt that nothing disturbs."""
        with self.job():
            pass

    def until_paid(self, count: int, process: subprocess.Popen[bytes]) -> None:
        """Waits, as long as there is an attempt to wait for."""
        while self.api.paid < count and process.poll() is None:
            time.sleep(0.01)

    def strike(self, number: signal.Signals, *struck: psutil.Process) -> None:
        """Processes are killed, or told to stop."""
        kept = self.kept()
        for process in struck:
            process.send_signal(number)
        self.at_risk += self.api.calls - kept - self.lost
        self.kills += 1

    def kept(self) -> int:
        """Answers on disk."""
        return sum(file.read_bytes().count(b"\n") for file in (self.folder / "store" / "turns").rglob("*.jsonl"))

    def quiet(self) -> None:
        """Waits until workers that lost their job have ended."""
        seen = -1
        while seen != self.api.calls:
            seen = self.api.calls
            time.sleep(2)

    def dataset(self) -> dict[str, bytes]:
        """Its files."""
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


def told(number: signal.Signals) -> Callable[[Case], None]:
    """A signal to the job; SIGKILL takes all its processes, as at the end of a container."""

    def disturb(case: Case) -> None:
        with case.job() as process:
            case.until_paid(AT, process)
            job = psutil.Process(process.pid)
            struck = [job, *job.children(recursive=True)] if number is signal.SIGKILL else [job]
            case.strike(number, *struck)
        case.quiet()
        case.finish()

    return disturb


def cut_record(case: Case) -> None:
    with case.job() as process:
        case.until_paid(AT, process)
        process.terminate()
    case.quiet()
    largest = max((case.folder / "store" / "turns").rglob("*.jsonl"), key=lambda file: file.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) - 100])
    case.finish()


def full_disk(case: Case) -> None:
    """A small file system of its own. Needs root."""
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
        kept = case.dataset()
    finally:
        subprocess.run(["umount", "-l", str(store)], check=True)
    target = store / artifact_path("generate", case.run.keys.dataset)
    target.mkdir(parents=True)
    for name, content in kept.items():
        (target / name).write_bytes(content)


def _workers(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [each for each in psutil.Process(job.pid).children(recursive=True) if each.name().startswith("ray::PaidWorker")]


def worker_kills(case: Case) -> None:
    rng = random.Random(1)
    with case.job() as process:
        for number in range(KILLS):
            case.until_paid(20 + number * 50 + rng.randrange(50), process)
            if process.poll() is None and (workers := _workers(process)):
                victim = rng.choice(workers)
                case.strike(signal.SIGKILL, victim)
                victim.wait(10)
                case.lost = case.api.calls - case.kept()


def script(of: Callable[[MessagesApi], Fault | None]) -> Callable[[Case], None]:
    """Faults that the provider has."""

    def disturb(case: Case) -> None:
        case.api.script = of
        case.finish()

    return disturb


CASES: dict[str, Callable[[Case], None]] = {
    "none": undisturbed,
    "5 % of the calls 429 or 529": script(some(0.05, RATE_LIMITED, OVERLOADED)),
    "2 % of the connections cut": script(some(0.02, CUT)),
    "20 s of nothing but 429 after 100 calls": script(outage(20, Fault(429, "rate_limit_error", "slow down"), after=100)),
    f"credit used up after {AT} calls": no_credit,
    f"SIGKILL of the job at call {AT}": told(signal.SIGKILL),
    f"Ctrl-C at call {AT}": told(signal.SIGINT),
    f"SIGTERM at call {AT}": told(signal.SIGTERM),
    "a record cut in the middle of a file": cut_record,
    f"disk full at call {AT}": full_disk,
    f"{KILLS} SIGKILLs of workers": worker_kills,
}


def figures(*names: str) -> dict[str, Any]:
    """All of them; writes the table on the way."""
    sys.stdout.write(HEAD)
    clean, files, twice, same = 0, dict[str, bytes](), dict[str, int](), list[bool]()
    for name, disturb in CASES.items():
        if names and not any(each in name for each in names):
            continue
        with messages_api(MessagesApi(seconds=SECONDS)) as api, tempfile.TemporaryDirectory() as folder:
            case = Case(Path(folder), api)
            disturb(case)
            clean, files = clean or api.paid, files or case.dataset()
            twice[name] = api.paid - clean
            same.append(bool(files) and case.dataset() == files)
            codes = ", ".join(map(str, case.codes))
            risk = f"{case.at_risk} at {case.kills}" if case.kills else ""
            verdict = "the same" if same[-1] else "DIFFERENT"
            sys.stdout.write(f"| {name} | {codes} | {api.paid:,} | {twice[name]} | {risk} | {verdict} |\n")
            sys.stdout.flush()
    return {"twice_paid_calls": twice, "datasets_byte_identical": all(same)}


if __name__ == "__main__":
    sys.stdout.write(f"{figures(*sys.argv[1:])}\n")
