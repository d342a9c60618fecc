"""The output of a training: the best weights as a directory that vLLM can serve, and the figures of the run."""

import math
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerState

from subterra_jobs.train.checkpoints.best_weights import MODEL_FILES, BestWeights, best_weights
from subterra_jobs.train.checkpoints.resumable import step_of


def exported_weights(state: TrainerState, directory: Path) -> BestWeights:
    """The weights with the lowest held-out loss; those of the last step if none was measured.

    That loss is about what was trained: every node, edge and pair of edges of a held-out conversation is in training conversations
    too (`generate/plan/split.py`), in other combinations, values or words. Loss on steps that were never trained would favor the
    checkpoint that learned least, because it is the least certain of something else. Only a plan with too few conversations to
    train everything leaves no such choice, and the generate stage's message says so.
    """
    best = best_weights(directory)
    return best or BestWeights(directory / f"checkpoint-{state.global_step}", state.global_step, heldout_loss=float("nan"))


def export_model(weights: Path, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    """Writes a complete Hugging Face model directory, without optimizer states and the like, to ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    for pattern in MODEL_FILES:
        for file in sorted(weights.glob(pattern)):
            shutil.copyfile(file, output / file.name)
    tokenizer.save_pretrained(output)


def training_figures(state: TrainerState, best: BestWeights, resumed_from: Path | None, tokens_per_epoch: int) -> dict[str, Any]:
    """Figures for the `TrainingSummary`."""
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return {
        "steps": state.global_step,
        "best_step": best.step,
        "loss": losses[-1] if losses else None,
        "heldout_loss": None if math.isnan(best.heldout_loss) else best.heldout_loss,
        "tokens": round(tokens_per_epoch * float(state.epoch or 0)),
        "resumed_from_step": step_of(resumed_from) if resumed_from else 0,
    }
