"""The train stage as one call. Loads no engine itself: the ranks do."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subterra_api.job_contract.messages import Training
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train import checkpoints
from subterra_jobs.train.exchange import HELD_OUT_FILE, TRAIN_FILE, Job, OnProgress
from subterra_jobs.train.launcher import launch


@dataclass(frozen=True)
class TrainingSummary:
    """How a training went. Losses are per token of the agent, in nats."""

    steps: int
    best_step: int
    loss: float | None
    heldout_loss: float | None
    tokens: int
    resumed_from_step: int
    seconds: float


def train(
    dataset_dir: Path,
    output_dir: Path,
    checkpoint_dir: Path,
    base_model: str,
    system_prompt: str,
    wordings: Sequence[str],
    settings: Training,
    on_progress: OnProgress,
    *,
    ranks: int = 1,
) -> TrainingSummary:
    """Fine-tunes every parameter and leaves a model directory in ``output_dir``.

    ``base_model`` is ``scratch``, a local directory or a hub name; ``wordings`` are the procedure's utterances with
    ``{{variable}}`` markers, for the tokenizer of ``scratch``. A training that was killed goes on from the newest checkpoint
    in ``checkpoint_dir``, which must belong to these inputs alone. Raises StageError.
    """
    started = time.monotonic()
    for name in (TRAIN_FILE, HELD_OUT_FILE):
        if not (dataset_dir / name).is_file():
            raise InvalidInputError(f"the dataset has no {name}; run the generate stage again")
    checkpoint_dir.mkdir(parents=True, exist_ok=True)
    checkpoints.remove_unusable(checkpoint_dir, ranks)
    job = Job(
        dataset_dir=str(dataset_dir.resolve()),
        output_dir=str(output_dir.resolve()),
        checkpoint_dir=str(checkpoint_dir.resolve()),
        base_model=base_model,
        system_prompt=system_prompt,
        wordings=list(wordings),
        settings=settings.model_dump(mode="json"),
        ranks=ranks,
    )
    with tempfile.TemporaryDirectory(prefix="train-") as work:
        result = launch(job, Path(work), on_progress)
    return TrainingSummary(**result, seconds=round(time.monotonic() - started, 1))
