"""The weights with the lowest held-out loss so far, without what a training needs to resume."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL_FILES = ("config.json", "generation_config.json", "adapter_config.json", "*.safetensors", "*.safetensors.index.json")
"""Of a whole model, or of the adapters of one."""
_ABOUT = "best.json"


@dataclass(frozen=True)
class BestWeights:
    """A directory with `MODEL_FILES`, and how good they are."""

    folder: Path
    step: int
    heldout_loss: float


def best_weights(directory: Path) -> BestWeights | None:
    """The best weights of a training; `None` before its first evaluation."""
    found = []
    for folder in directory.glob("best-*"):
        try:
            found.append(BestWeights(folder, **json.loads((folder / _ABOUT).read_text())))
        except (OSError, ValueError, TypeError):
            continue  # another attempt was killed while it wrote this one
    return min(found, key=lambda best: best.heldout_loss, default=None)


def keep_best(source: Path, directory: Path, step: int, heldout_loss: float) -> None:
    """Makes the weights in ``source`` the best ones of ``directory``, without a copy where the file system has hard links."""
    target = directory / f"best-{step}"
    partial = directory / f"partial-{target.name}"
    for folder in (partial, target):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for pattern in MODEL_FILES:
        for file in source.glob(pattern):
            _link(file, partial / file.name)
    about = asdict(BestWeights(target, step, heldout_loss))
    del about["folder"]
    (partial / _ABOUT).write_text(json.dumps(about))
    partial.rename(target)
    for other in directory.glob("best-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def adopt_best(resumed: Path, directory: Path) -> None:
    """Keeps the best weights that a checkpoint knows as another checkpoint, which is how releases before `keep_best` had them."""
    if best_weights(directory) is not None:
        return
    try:
        state = json.loads((resumed / "trainer_state.json").read_text())
        step, loss = state["best_global_step"], state["best_metric"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if step is not None and (directory / f"checkpoint-{step}").is_dir():
        keep_best(directory / f"checkpoint-{step}", directory, step, loss)
