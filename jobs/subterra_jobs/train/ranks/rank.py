"""One rank of a training, started by `launcher.py`: ``torchrun … -m subterra_jobs.train.ranks.rank DIRECTORY``."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from subterra_jobs.errors import InfrastructureError, StageError
from subterra_jobs.train.checkpoints import resumable
from subterra_jobs.train.checkpoints.best_weights import adopt_best
from subterra_jobs.train.exchange import HELD_OUT_FILE, SCRATCH, TRAIN_FILE, Exchange, TrainingTask
from subterra_jobs.train.ranks.rank_failure import DAMAGED_FILE, failure_of, symptom_in
from subterra_jobs.train.ranks.torchrun import die_with_parent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from subterra_jobs.train.checkpoints.best_weights import BestWeights
    from subterra_jobs.train.trainer import StageTrainer

HELD_OUT_LIMIT = 256
"""Held-out conversations used to compare checkpoints; more would take time and change little."""


def main(directory: str) -> int:
    """Trains and returns the exit code; rank 0 writes the model, then the result. Every rank that fails leaves its reason.

    On another node than rank 0 the first rank reports that its pod's part is done.
    """
    die_with_parent()
    exchange = Exchange(Path(directory))
    try:
        _init_distributed()
        _train(exchange.read_task(), exchange)
    except Exception as error:
        if not isinstance(error, StageError):
            traceback.print_exc()
        failure = failure_of(error, rank := int(os.environ.get("RANK", "0")))
        exchange.fail(failure, rank)
        return int(failure.code)
    return 0


def _init_distributed() -> None:
    """Joins the ranks before any library counts them.

    DeepSpeed's shared-memory operator for CPUs is disabled: it would be compiled with g++ and ninja at first use, and gloo does
    the same work.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", auto_mpi_discovery=False)


def _train(task: TrainingTask, exchange: Exchange) -> None:
    from subterra_jobs.train.model.base_model import load_model, load_tokenizer, training_dtype
    from subterra_jobs.train.model.export import training_figures
    from subterra_jobs.train.model.refusals import require_rows
    from subterra_jobs.train.optimizers.deepspeed_config import has_master_copy
    from subterra_jobs.train.tokenized_dataset import load_examples
    from subterra_jobs.train.trainer import Splits, Workload, build_trainer, sft_config

    settings = task.settings
    tokenizer = load_tokenizer(task.base_model, task.system_prompt, task.wordings, task.tools)
    train, left_out = load_examples(tokenizer, task.dataset_dir / TRAIN_FILE, settings.max_length)
    held_out, _ = load_examples(tokenizer, task.dataset_dir / HELD_OUT_FILE, settings.max_length, HELD_OUT_LIMIT)
    splits = Splits(train, held_out)
    workload = Workload(
        task.ranks,
        max(train["length"]),
        training_dtype(task.base_model),
        task.base_model != SCRATCH,
        in_place=not has_master_copy(settings),
    )
    # The trainer's arguments come before the model: with ZeRO-3 they make it load in parts.
    config = sft_config(settings, workload, task.checkpoint_dir)
    model = load_model(task.base_model, tokenizer, settings.seed)
    require_rows(model, tokenizer, [*train["input_ids"], *held_out["input_ids"]], task.base_model)
    trainer = build_trainer(model, tokenizer, config, splits, workload, exchange, settings)
    resumed = _resume(trainer, task)
    if trainer.is_world_process_zero() and not trainer.stopping:
        best = _export(trainer, tokenizer, task)
        figures = training_figures(trainer.state, best, resumed, sum(train["length"]))
        precision, seconds = str(workload.dtype).removeprefix("torch."), round(trainer.cadence.seconds, 1)
        exchange.succeed({"precision": precision, "checkpoint_seconds": seconds, "left_out": left_out, **figures})
    torch.distributed.barrier()
    _end_on_this_node(exchange, stopping=trainer.stopping)


def _export(trainer: "StageTrainer", tokenizer: "PreTrainedTokenizerBase", task: TrainingTask) -> "BestWeights":
    """Writes the servable model and the log of its losses; returns the weights that it has."""
    from subterra_jobs.train.model.adapters import export_merged
    from subterra_jobs.train.model.base_model import load_whole
    from subterra_jobs.train.model.export import export_model, exported_weights
    from subterra_jobs.train.model.loss_log import write_loss_log

    best = exported_weights(trainer.state, task.checkpoint_dir)
    if task.settings.lora is None:
        export_model(best.folder, tokenizer, task.output_dir)
    else:
        export_merged(load_whole(task.base_model, tokenizer, task.settings.seed), best.folder, tokenizer, task.output_dir)
    write_loss_log(task.output_dir, trainer.state.log_history, best.step)
    return best


def _end_on_this_node(exchange: Exchange, *, stopping: bool) -> None:
    """Reports the end to the launcher of a pod that rank 0 is not in, or that nobody asked to stop."""
    if stopping and not exchange.stop_requested():
        raise InfrastructureError("another node was asked to stop; the next attempt resumes from the newest checkpoint")
    if not stopping and os.environ["LOCAL_RANK"] == "0" and os.environ["RANK"] != "0":
        exchange.succeed({})


def _resume(trainer: "StageTrainer", task: TrainingTask) -> Path | None:
    """Trains to the end from the newest complete checkpoint, and returns that; from the start if there is none."""
    resumed = resumable.newest_complete(task.checkpoint_dir, task.ranks)
    if resumed and trainer.is_world_process_zero():
        sys.stdout.write(f"training goes on from {resumed.name}\n")
        adopt_best(resumed, task.checkpoint_dir)
    try:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except Exception as error:
        if resumed is None or trainer.began or symptom_in(f"{type(error).__name__}: {error}") is not DAMAGED_FILE:
            raise
        resumable.distrust(resumed)  # else every attempt would end here
        raise InfrastructureError(
            f"{resumed.name} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:300]}) and is not used again; "
            "another attempt starts without it"
        ) from error
    return resumed


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Engines leave threads behind that occasionally abort an interpreter which exits normally.
    os._exit(code)
