"""One rank of a training: ``torchrun … -m subterra_jobs.train.rank DIRECTORY``. Started by `launch.py`."""

import os
import sys
import traceback
from pathlib import Path

import torch

from subterra_api.job_contract.messages import Training
from subterra_jobs.errors import StageError
from subterra_jobs.train.exchange import HELD_OUT_FILE, TRAIN_FILE, Exchange, Failure, Job
from subterra_jobs.train.torchrun import die_with_parent

HELD_OUT_LIMIT = 256
"""Held-out conversations that a checkpoint is judged by; more would cost time and change little."""


def main(directory: str) -> int:
    """Trains; rank 0 writes the model and then the result. Returns the exit code."""
    die_with_parent()
    exchange = Exchange(Path(directory))
    try:
        _begin_distributed()
        _train(exchange.job(), exchange)
    except StageError as error:
        exchange.fail(Failure(error.code, str(error)))
        return int(error.code)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _begin_distributed() -> None:
    """Joins the ranks before any library counts them.

    DeepSpeed's shared-memory operator for CPUs is left out: it would be compiled with g++ and ninja at first use, and gloo
    does the same work.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", auto_mpi_discovery=False)


def _train(job: Job, exchange: Exchange) -> None:
    from subterra_jobs.train import checkpoints
    from subterra_jobs.train.model import base_model, export
    from subterra_jobs.train.tokenized_dataset import load_examples
    from subterra_jobs.train.trainer import build_trainer, sft_config

    settings, directory = Training(**job.settings), Path(job.checkpoint_dir)
    # The trainer's arguments come before the model: with ZeRO-3 they make it load in parts.
    config = sft_config(settings, job.ranks, directory)
    model, tokenizer = base_model.base_model(job.base_model, job.system_prompt, job.wordings, settings.seed)
    train = load_examples(tokenizer, Path(job.dataset_dir, TRAIN_FILE), settings.max_length)
    held_out = load_examples(tokenizer, Path(job.dataset_dir, HELD_OUT_FILE), settings.max_length, HELD_OUT_LIMIT)
    trainer = build_trainer(model, tokenizer, config, train, held_out, lambda *figures: exchange.report(figures))
    resumed = checkpoints.newest_complete(directory, job.ranks)
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if trainer.is_world_process_zero():
        best = export.best_checkpoint(trainer.state, directory)
        export.export_model(best, tokenizer, Path(job.output_dir))
        exchange.succeed(export.result(trainer.state, best, resumed, sum(train["length"])))
    torch.distributed.barrier()


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Engines leave threads behind that now and then abort an interpreter which exits the usual way.
    os._exit(code)
