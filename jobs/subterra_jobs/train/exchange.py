"""Files that the stage and the ranks of its training exchange: task and request to stop in; progress, result and failures out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from subterra_api.job_contract.messages import ExitCode, Training
from subterra_jobs.train.ranks.rank_failure import RankFailure, decisive

TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "heldout.jsonl"
SCRATCH = "scratch"
"""The base model that is made on the spot."""
ProgressLine = tuple[int, int, float | None, float | None]
"""Step, total steps, training loss and held-out loss; `None` for a loss that is not new."""
OnProgress = Callable[[int, int, float | None, float | None], None]
"""Called with the parts of a `ProgressLine`."""


@dataclass(frozen=True)
class TrainingTask:
    """Inputs and outputs of a training."""

    dataset_dir: Path
    output_dir: Path
    checkpoint_dir: Path
    """Must belong to this task alone: a training that was killed resumes from the newest checkpoint there."""
    base_model: str
    """``scratch``, a local directory or a hub name."""
    system_prompt: str
    wordings: Sequence[str]
    """The procedure's utterances with ``{{variable}}`` markers, for the tokenizer of ``scratch``."""
    settings: Training
    ranks: int = 1
    tools: str = ""
    """The procedure's tools, a JSON line each."""

    def to_json(self) -> dict[str, Any]:
        """The task as JSON, with absolute paths."""
        return {
            "dataset_dir": str(self.dataset_dir.resolve()),
            "output_dir": str(self.output_dir.resolve()),
            "checkpoint_dir": str(self.checkpoint_dir.resolve()),
            "base_model": self.base_model,
            "system_prompt": self.system_prompt,
            "wordings": list(self.wordings),
            "settings": self.settings.model_dump(mode="json"),
            "ranks": self.ranks,
            "tools": self.tools,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "TrainingTask":
        """The inverse of `to_json`."""
        directories = {name: Path(content[name]) for name in ("dataset_dir", "output_dir", "checkpoint_dir")}
        return cls(**content | directories | {"settings": Training(**content["settings"])})


@dataclass(frozen=True)
class Exchange:
    """The directory of the files. All of them but ``progress`` are written atomically."""

    directory: Path
    TASK: ClassVar = "task.json"
    PROGRESS: ClassVar = "progress.jsonl"
    RESULT: ClassVar = "result.json"
    FAILURE: ClassVar = "failure-{}.json"
    STOP: ClassVar = "stop"

    def write_task(self, task: TrainingTask) -> None:
        """Writes the task for the ranks."""
        self._write(self.TASK, task.to_json())

    def read_task(self) -> TrainingTask:
        """The task of this training."""
        return TrainingTask.from_json(json.loads((self.directory / self.TASK).read_text()))

    def report(self, line: ProgressLine) -> None:
        """Appends a line of progress."""
        with (self.directory / self.PROGRESS).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def progress(self, skip: int) -> list[ProgressLine]:
        """Complete lines of progress after the first ``skip``."""
        try:
            lines = (self.directory / self.PROGRESS).read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [(*json.loads(line),) for line in lines[skip:]]

    def succeed(self, result: dict[str, Any]) -> None:
        """Reports success. This decides, not the exit code: a rank may still abort while it exits."""
        self._write(self.RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """Figures of the finished training; `None` while it is not finished."""
        return self._read(self.RESULT)

    def fail(self, failure: RankFailure, rank: int = 0) -> None:
        """Reports why a rank gave up."""
        self._write(self.FAILURE.format(rank), asdict(failure))

    def failure(self) -> RankFailure | None:
        """The failure that explains those of all ranks, if any rank reported one."""
        files = sorted(self.directory.glob(self.FAILURE.format("*")), key=lambda file: file.stat().st_mtime_ns)
        contents = [json.loads(file.read_text()) for file in files]
        return decisive([RankFailure(**content | {"code": ExitCode(content["code"])}) for content in contents])

    def request_stop(self) -> None:
        """Asks the ranks to save their state after the current step, and to end."""
        (self.directory / self.STOP).touch()

    def stop_requested(self) -> bool:
        """Whether `request_stop` was called."""
        return (self.directory / self.STOP).exists()

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
