"""The losses of a training, left in the model's directory for the evaluation's report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subterra_api.job_contract.artifacts import LOSS_LOG_FILE

DIGITS = 5


def write_loss_log(directory: Path, history: Sequence[Mapping[str, Any]], best_step: int) -> None:
    """Writes training and held-out loss by step, from the trainer's history.

    Times are not in it, so that equal trainings leave equal files.
    """
    rows = {
        "train": [[each["step"], round(each["loss"], DIGITS)] for each in history if "loss" in each],
        "heldOut": [[each["step"], round(each["eval_loss"], DIGITS)] for each in history if "eval_loss" in each],
        "bestStep": best_step,
    }
    (directory / LOSS_LOG_FILE).write_text(json.dumps(rows), "utf-8")
