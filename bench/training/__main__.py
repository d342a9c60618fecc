"""``python -m bench.training``: tokens per CPU second of the train stage (TRL on DeepSpeed) and of a plain PyTorch loop.

Both train the bundled model on the same conversations, in bfloat16 where the processor has it, with the same micro batches. CPU
seconds are those of the process that trains, from the first to the last step, so other work on the machine matters little.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from bench.training.conversations import write_dataset
from bench.training.plain_loop import train_plainly
from tests.tools.models import bundled_models

from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compilerun import GenerationSettings, TrainingSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.model.base_model import training_dtype
from subterra_jobs.train.training import train

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct"


def main() -> None:
    """Prints both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--zero-stage", type=int, default=2)
    arguments = parser.parse_args()
    procedure = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        conversations = GenerationSettings(conversations=16 * (arguments.steps + 4))
        write_dataset(procedure, generation_of(conversations, "bundled"), work / "dataset")
        task = _task(procedure, work, arguments.steps, arguments.zero_stage)
        _say(f"{training_dtype(task.base_model)}, {len(os.sched_getaffinity(0))} CPUs, {arguments.steps} steps")
        deepspeed = _stage_rate(task)
        _say(f"train stage (ZeRO-{arguments.zero_stage}): {deepspeed:.0f} tokens per CPU second")
        plain = train_plainly(task, arguments.steps)
        _say(f"plain loop: {plain:.0f} tokens per CPU second; ratio {deepspeed / plain:.2f}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _task(procedure: ProcedureSpec, work: Path, steps: int, zero_stage: int) -> TrainingTask:
    # The last checkpoint comes after the last step, and so after the measurement.
    settings = TrainingSettings(max_steps=steps, checkpoint_steps=steps, zero_stage=zero_stage)
    return TrainingTask(
        dataset_dir=work / "dataset",
        output_dir=work / "model",
        checkpoint_dir=work / "checkpoints",
        base_model=str(bundled_models() / MODEL),
        system_prompt=procedure.system_prompt,
        wordings=(),
        settings=training_of(settings, "bundled"),
    )


def _stage_rate(task: TrainingTask) -> float:
    """Tokens per CPU second between the first and the last step of the stage."""
    seconds: dict[int, float] = {}

    def record(step: int, planned: int, loss: float | None, held_out: float | None) -> None:
        if loss is not None:
            seconds.setdefault(step, _rank_seconds())

    summary = train(task, record)
    first, last = min(seconds), max(seconds)
    return summary.tokens / summary.steps * (last - first) / (seconds[last] - seconds[first])


def _rank_seconds() -> float:
    """CPU seconds of the rank so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"subterra_jobs.train.rank\0" in command and b"torchrun" not in command:
            return (int(fields[11]) + int(fields[12])) / ticks
    return time.process_time()


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
