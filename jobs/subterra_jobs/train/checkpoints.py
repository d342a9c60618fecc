"""Checkpoints of an interrupted training: which one to go on from."""

import json
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
_MARKER = "complete.json"


def mark_complete(checkpoint: Path, ranks: int) -> None:
    """Says that every rank has written its part. To be called after all of them have."""
    partial = checkpoint / f"{_MARKER}.partial"
    partial.write_text(json.dumps({"ranks": ranks}))
    partial.rename(checkpoint / _MARKER)


def newest_complete(directory: Path, ranks: int) -> Path | None:
    """The newest checkpoint that this number of ranks can go on from.

    DeepSpeed's optimizer state is split by rank and cannot be split anew for Muon, so a run with another number of ranks
    starts over.
    """
    found = [(step_of(path), path) for path in _checkpoints(directory) if _ranks_of(path) == ranks]
    return max(found)[1] if found else None


def remove_unusable(directory: Path, ranks: int) -> None:
    """Removes what a kill left half written and what other ranks wrote: the trainer would count it as its own."""
    for path in _checkpoints(directory):
        if _ranks_of(path) != ranks:
            shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _ranks_of(checkpoint: Path) -> int | None:
    """How many ranks wrote it; none when it is unfinished."""
    try:
        ranks: int = json.loads((checkpoint / _MARKER).read_text())["ranks"]
    except FileNotFoundError:
        return None
    return ranks
