"""What passes between the stage and the ranks of its training: one file in, three files out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from subterra_api.job_contract.messages import ExitCode

TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "heldout.jsonl"
Figures = tuple[int, int, float | None, float | None]
"""Step, total steps, training loss, held-out loss; a loss that is not new is None."""
OnProgress = Callable[[int, int, float | None, float | None], None]
"""Called with such figures."""


@dataclass(frozen=True)
class Job:
    """What every rank needs to know. Paths are absolute."""

    dataset_dir: str
    output_dir: str
    checkpoint_dir: str
    base_model: str
    system_prompt: str
    wordings: list[str]
    settings: dict[str, Any]
    ranks: int


@dataclass(frozen=True)
class Failure:
    """Why a rank gave up, in words for the author of the run."""

    code: ExitCode
    message: str


@dataclass(frozen=True)
class Exchange:
    """The directory of the files. Every file but ``progress`` appears whole or not at all."""

    directory: Path
    JOB: ClassVar = "job.json"
    PROGRESS: ClassVar = "progress.jsonl"
    RESULT: ClassVar = "result.json"
    FAILURE: ClassVar = "failure.json"

    def write_job(self, job: Job) -> None:
        """Leaves the job for the ranks."""
        self._write(self.JOB, asdict(job))

    def job(self) -> Job:
        """The job that was left."""
        return Job(**json.loads((self.directory / self.JOB).read_text()))

    def report(self, figures: Figures) -> None:
        """Appends a line of progress."""
        with (self.directory / self.PROGRESS).open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def progress(self, seen: int) -> list[Figures]:
        """Complete lines of progress after the first ``seen``."""
        try:
            lines = (self.directory / self.PROGRESS).read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [(*json.loads(line),) for line in lines[seen:]]

    def succeed(self, result: dict[str, Any]) -> None:
        """Says that all work is done. This decides, not the exit code: a rank may still abort while it exits."""
        self._write(self.RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """Figures of a finished training; none while it is not finished."""
        return self._read(self.RESULT)

    def fail(self, failure: Failure) -> None:
        """Leaves the reason of a failure that is no crash."""
        self._write(self.FAILURE, asdict(failure))

    def failure(self) -> Failure | None:
        """The reason that a rank left."""
        found = self._read(self.FAILURE)
        return None if found is None else Failure(ExitCode(found["code"]), found["message"])

    def _write(self, name: str, content: dict[str, Any]) -> None:
        partial = self.directory / f"{name}.partial"
        partial.write_text(json.dumps(content))
        partial.rename(self.directory / name)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads((self.directory / name).read_text())
        except FileNotFoundError:
            return None
        return content
