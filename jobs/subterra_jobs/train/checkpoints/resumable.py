"""Checkpoints of an interrupted training, and which one to resume from. A complete one has a marker with the sizes of its files."""

import json
import os
import re
import shutil
from pathlib import Path

from subterra_jobs.store.artifact_store import on_disk

_NAME = re.compile(r"checkpoint-(\d+)")
_MARKER = "complete.json"


def mark_complete(checkpoint: Path, ranks: int) -> None:
    """Marks a checkpoint as complete. Call it after every rank has written its part.

    From then on a resume has this one, so older ones and those set aside are removed.
    """
    files = [on_disk(file) for file in sorted(checkpoint.rglob("*")) if file.is_file()]
    sizes = {str(file.relative_to(checkpoint)): file.stat().st_size for file in files}
    partial = checkpoint / f"{_MARKER}.partial"
    with partial.open("w") as file:
        file.write(json.dumps({"ranks": ranks, "files": sizes}))
        file.flush()
        os.fsync(file.fileno())  # else a crash of the node may leave the name without its content
    partial.rename(checkpoint / _MARKER)
    for aside in checkpoint.parent.glob(_aside_of("*")):
        shutil.rmtree(aside, ignore_errors=True)
    for older in _checkpoints(checkpoint.parent):
        if older != checkpoint:
            shutil.rmtree(older, ignore_errors=True)


def distrust(checkpoint: Path) -> None:
    """Makes a checkpoint count as incomplete, because it could not be read; the next attempt does not try it again."""
    (checkpoint / _MARKER).unlink(missing_ok=True)


def size_of(checkpoint: Path) -> int:
    """Bytes of a checkpoint."""
    return sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())


def newest_complete(directory: Path, ranks: int) -> Path | None:
    """The newest checkpoint that ``ranks`` ranks can resume from, or `None`.

    DeepSpeed's optimizer state is split by rank and cannot be redistributed for Muon, so a run with another number of ranks
    starts over.
    """
    complete = [(step_of(path), path) for path in _checkpoints(directory) if _ranks_of(path) == ranks]
    return max(complete)[1] if complete else None


def set_aside_unusable(directory: Path, ranks: int) -> None:
    """Leaves only checkpoints that ``ranks`` ranks can resume from, because the trainer takes all others for its own too.

    Incomplete ones are removed. Those of another number of ranks are kept in a folder until this training has a complete one:
    if it never has, the next attempt with their number of ranks gets them back.
    """
    for path in _checkpoints(directory):
        written_by = _ranks_of(path)
        if written_by is None:
            shutil.rmtree(path, ignore_errors=True)
        elif written_by != ranks:
            _move(path, directory / _aside_of(str(written_by)))
    for path in _checkpoints(directory / _aside_of(str(ranks))):
        _move(path, directory)
    for unfinished in (*directory.glob("weights-*"), *directory.glob("partial-*")):
        shutil.rmtree(unfinished, ignore_errors=True)


def _aside_of(ranks: str) -> str:
    return f"ranks-{ranks}"


def _move(checkpoint: Path, folder: Path) -> None:
    """Moves a checkpoint into a folder, in place of one of the same step."""
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / checkpoint.name, ignore_errors=True)
    checkpoint.rename(folder / checkpoint.name)


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _checkpoints(directory: Path) -> list[Path]:
    return [path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _ranks_of(checkpoint: Path) -> int | None:
    """The number of ranks that wrote a checkpoint.

    `None` if it is incomplete, which one with a damaged marker or with a file of another size is too.
    """
    try:
        marker = json.loads((checkpoint / _MARKER).read_text())
        ranks, sizes = marker["ranks"], marker.get("files", {})
        whole = all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return ranks if whole and type(ranks) is int and ranks > 0 else None
