"""The output of a training: the best checkpoint as a directory that vLLM can serve, and the figures of the run."""

import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerState

from subterra_jobs.train.checkpoints import step_of

_MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def best_checkpoint(state: TrainerState, directory: Path) -> Path:
    """The checkpoint with the lowest held-out loss.

    That loss is about what was trained: every node, edge and pair of edges of a held-out conversation is in training conversations
    too (`generate/plan/split.py`), in other combinations, values or words. Loss on steps that were never trained would favor the
    checkpoint that learned least, because it is the least certain of something else. Only a plan with too few conversations to
    train everything leaves no such choice, and the generate stage's message says so.
    """
    if state.best_model_checkpoint is not None and Path(state.best_model_checkpoint).is_dir():
        return Path(state.best_model_checkpoint)
    return directory / f"checkpoint-{state.global_step}"


def export_model(checkpoint: Path, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    """Writes a complete Hugging Face model directory, without optimizer states and the like, to ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    for pattern in _MODEL_FILES:
        for file in sorted(checkpoint.glob(pattern)):
            shutil.copyfile(file, output / file.name)
    tokenizer.save_pretrained(output)


def training_figures(state: TrainerState, best: Path, resumed_from: Path | None, tokens_per_epoch: int) -> dict[str, Any]:
    """Figures for the `TrainingSummary`."""
    held_out = {entry["step"]: entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry}
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    best_step = step_of(best)
    return {
        "steps": state.global_step,
        "best_step": best_step,
        "loss": losses[-1] if losses else None,
        "heldout_loss": held_out.get(best_step),
        "tokens": round(tokens_per_epoch * float(state.epoch or 0)),
        "resumed_from_step": step_of(resumed_from) if resumed_from else 0,
    }
