"""Checkpoints of an interrupted training, and which one to resume from."""

import json
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_MARKER = "complete.json"


def mark_complete(checkpoint: Path, ranks: int) -> None:
    """Marks a checkpoint as complete. Call it after every rank has written its part."""
    partial = checkpoint / f"{_MARKER}.partial"
    partial.write_text(json.dumps({"ranks": ranks}))
    partial.rename(checkpoint / _MARKER)


def newest_complete(directory: Path, ranks: int) -> Path | None:
    """The newest checkpoint that ``ranks`` ranks can resume from, or `None`.

    DeepSpeed's optimizer state is split by rank and cannot be redistributed for Muon, so a run with another number of ranks
    starts over.
    """
    complete = [(step_of(path), path) for path in _checkpoints(directory) if _ranks_of(path) == ranks]
    return max(complete)[1] if complete else None


def remove_unusable(directory: Path, ranks: int) -> None:
    """Removes incomplete checkpoints and those of another number of ranks, which the trainer would take for its own."""
    for path in _checkpoints(directory):
        if _ranks_of(path) != ranks:
            shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _ranks_of(checkpoint: Path) -> int | None:
    """The number of ranks that wrote a checkpoint; `None` if it is incomplete."""
    try:
        ranks: int = json.loads((checkpoint / _MARKER).read_text())["ranks"]
    except FileNotFoundError:
        return None
    return ranks
