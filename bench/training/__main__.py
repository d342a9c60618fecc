"""``python -m bench.training``: tokens per CPU second of the train stage (TRL on DeepSpeed) and of a plain PyTorch loop.

Both train the bundled model on the same conversations, in bfloat16 where the processor has it, with the same micro batches. CPU
seconds are those of the process that trains, from the first to the last step, so other work on the machine matters little.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import yaml
from bench.training.conversations import write_dataset
from bench.training.padding import rates, waiting
from bench.training.plain_loop import train_plainly
from tests.tools.models import bundled_models

from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compilerun import GenerationSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_jobs.train.batches.step_plan import CPU_MICRO_BATCH_TOKENS
from subterra_jobs.train.exchange import SCRATCH, TRAIN_FILE, TrainingTask
from subterra_jobs.train.main import wordings
from subterra_jobs.train.model.base_model import load_model, load_tokenizer, training_dtype
from subterra_jobs.train.tokenized_dataset import load_examples
from subterra_jobs.train.training import train

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct"
RANKS_COMPARED, BATCHES_COMPARED = 8, 12


def main() -> None:
    """Prints the rates, and all figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--zero-stage", type=int, default=2)
    parser.add_argument(
        "--small", action="store_true", help="the model from scratch instead of the bundled one, without plain loop"
    )
    arguments = parser.parse_args()
    procedure = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        conversations = GenerationSettings(conversations=16 * (arguments.steps + 4))
        write_dataset(procedure, generation_of(conversations, "bundled"), work / "dataset")
        task = _task(procedure, work, arguments)
        _say(f"{training_dtype(task.base_model)}, {len(os.sched_getaffinity(0))} CPUs, {arguments.steps} steps")
        figures = _batch_figures(task) | _stage_figures(task)
        if not arguments.small:
            figures["plain_loop"] = round(train_plainly(task, arguments.steps))
            _say(f"plain loop: {figures['plain_loop']:.0f} tokens per CPU second")
    _say(json.dumps(figures))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _task(procedure: ProcedureSpec, work: Path, arguments: argparse.Namespace) -> TrainingTask:
    # A checkpoint in the middle and one at the end, as a short training has them.
    steps = arguments.steps
    settings = TrainingSettings(max_steps=steps, checkpoint_steps=max(1, steps // 2), zero_stage=arguments.zero_stage)
    return TrainingTask(
        dataset_dir=work / "dataset",
        output_dir=work / "model",
        checkpoint_dir=work / "checkpoints",
        base_model=SCRATCH if arguments.small else str(bundled_models() / MODEL),
        system_prompt=procedure.system_prompt,
        wordings=wordings(procedure) if arguments.small else (),
        settings=training_of(settings, "scratch" if arguments.small else "bundled"),
    )


def _batch_figures(task: TrainingTask) -> dict[str, float]:
    """Padding and waiting, before and after."""
    tokenizer = load_tokenizer(task.base_model, task.system_prompt, task.wordings)
    examples = load_examples(tokenizer, task.dataset_dir / TRAIN_FILE, task.settings.max_length).dataset
    build = partial(load_model, task.base_model, tokenizer, task.settings.seed)
    padded, free = rates(build, examples, task.settings.batch_size, CPU_MICRO_BATCH_TOKENS, BATCHES_COMPARED)
    _say(f"useful tokens per CPU second: {padded:.0f} padded, {free:.0f} without padding")
    before, after = waiting(list(examples["length"]), 4 * RANKS_COMPARED, RANKS_COMPARED, CPU_MICRO_BATCH_TOKENS)
    _say(f"{RANKS_COMPARED} ranks, 4 conversations each: {before:.1%} of the time waiting before, {after:.1%} now")
    return {
        "padding_free_over_padded": round(free / padded, 2),
        "idle_by_stragglers_before": round(before, 4),
        "idle_by_stragglers": round(after, 4),
    }


def _stage_figures(task: TrainingTask) -> dict[str, float]:
    """Tokens per CPU second between the first and the last step of the stage, and the share of its time for checkpoints."""
    seconds: dict[int, float] = {}

    def record(step: int, planned: int, loss: float | None, held_out: float | None) -> None:
        if loss is not None:
            seconds.setdefault(step, _rank_seconds())

    summary = train(task, record)
    first, last = min(seconds), max(seconds)
    rate = summary.tokens / summary.steps * (last - first) / (seconds[last] - seconds[first])
    share = summary.checkpoint_seconds / summary.seconds
    _say(f"train stage: {rate:.0f} tokens per CPU second, {share:.1%} of {summary.seconds:.0f} s for checkpoints")
    return {"train_stage": round(rate), "checkpoint_share": round(share, 4)}


def _rank_seconds() -> float:
    """CPU seconds of the rank so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"subterra_jobs.train.ranks.rank\0" in command and b"torchrun" not in command:
            return (int(fields[11]) + int(fields[12])) / ticks
    return time.process_time()


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
