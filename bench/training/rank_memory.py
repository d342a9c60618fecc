"""``python -m bench.training.rank_memory``: the memory of each rank at its peak, measured, and as `subterra plan` estimates it.

The bundled model is trained for a few steps on a CPU, by the train stage, with two ranks. Conversations are turns of the travel
example, half of ``--lengths`` to ``--lengths`` tokens long, so that no two micro-batches have the same size.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from bench.training.conversations import write_dataset
from tests.tools.models import bundled_models
from transformers import PreTrainedTokenizerBase

from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compilerun import GenerationSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_core.training_fit.memory_estimate import TrainingSetup, estimate_memory
from subterra_core.training_fit.model_shape import shape_of
from subterra_jobs.train.batches.step_plan import token_limit
from subterra_jobs.train.exchange import HELD_OUT_FILE, TRAIN_FILE, TrainingTask
from subterra_jobs.train.model.base_model import load_tokenizer, training_dtype
from subterra_jobs.train.tokenized_dataset import Message, encode, read_conversations
from subterra_jobs.train.training import train

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct"
LENGTHS = (128, 627, 2048)
RANKS, MICRO_BATCHES = 2, 2
"""Ranks, and micro-batches of each in a step."""
SAMPLE_SECONDS = 0.5
FILLER = " yes"


def main() -> None:
    """Prints a table, and all figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--zero-stage", type=int, default=2)
    arguments = parser.parse_args()
    procedure = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
    figures = {}
    _say("| tokens | measured | estimated | estimated ÷ measured |\n|---|---|---|---|")
    for length in arguments.lengths:
        with tempfile.TemporaryDirectory() as folder:
            task = _task(procedure, Path(folder), length, arguments)
            with _watched() as peaks:
                train(task, lambda *_: None)
        estimated, measured = estimate_memory(_setup(task)).peak, max(peaks.by_process.values())
        figures[length] = {"measured": measured, "estimated": estimated}
        _say(f"| {length:,} | {measured / 1e9:.2f} GB | {estimated / 1e9:.2f} GB | {estimated / measured:.2f} |")
    _say(json.dumps(figures))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _task(procedure: ProcedureSpec, work: Path, length: int, arguments: argparse.Namespace) -> TrainingTask:
    base, data = bundled_models() / MODEL, work / "dataset"
    per_rank = MICRO_BATCHES * max(1, token_limit(RANKS, pretrained_on_cpu=True) // length)
    settings = {"max_steps": arguments.steps, "checkpoint_steps": max(1, arguments.steps // 2), "zero_stage": arguments.zero_stage}
    task = TrainingTask(
        dataset_dir=data,
        output_dir=work / "model",
        checkpoint_dir=work / "checkpoints",
        base_model=str(base),
        system_prompt=procedure.system_prompt,
        wordings=(),
        settings=training_of(TrainingSettings(batch_size=per_rank * RANKS, max_length=length, **settings), "bundled"),
        ranks=RANKS,
    )
    write_dataset(procedure, generation_of(GenerationSettings(conversations=100), "bundled"), data)
    tokenizer = load_tokenizer(task.base_model, task.system_prompt, ())
    written, rng = list(read_conversations(data / TRAIN_FILE)), random.Random(length)
    for name, count in ((TRAIN_FILE, per_rank * RANKS * arguments.steps), (HELD_OUT_FILE, 2 * RANKS)):
        lengths = [length, *(rng.randint(length // 2, length) for _ in range(count - 1))]
        made = [{"messages": _conversation(tokenizer, written, tokens, rng)} for tokens in lengths]
        (data / name).write_text("".join(f"{json.dumps(each)}\n" for each in made))
    return task


def _conversation(
    tokenizer: PreTrainedTokenizerBase, written: Sequence[list[Message]], tokens: int, rng: random.Random
) -> list[Message]:
    """Turns of written conversations, one after the other, with as many tokens; words of the customer fill up the rest."""
    system = written[0][0]
    chosen: list[Message] = [system]
    while True:
        turns = [message for message in rng.choice(written) if message["role"] in ("user", "assistant")]
        turns = turns[1:] if turns[0]["role"] == "assistant" else turns
        for customer, agent in zip(turns[::2], turns[1::2], strict=False):
            longer = [*chosen, customer, agent]
            if encode(tokenizer, longer)["length"] > tokens:
                return _filled(tokenizer, chosen if len(chosen) > 1 else [system, customer, agent], tokens)
            chosen = longer


def _filled(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tokens: int) -> list[Message]:
    missing = max(0, tokens - encode(tokenizer, messages)["length"])
    first = Message(role="user", content=messages[1]["content"] + FILLER * missing)
    return [messages[0], first, *messages[2:]]


def _setup(task: TrainingTask) -> TrainingSetup:
    settings = task.settings
    return TrainingSetup(
        shape=shape_of(f"bundled://{MODEL}"),
        optimizer=settings.optimizer,
        zero_stage=settings.zero_stage,
        ranks=task.ranks,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        on_gpu=False,
        precision="bfloat16" if str(training_dtype(task.base_model)) == "torch.bfloat16" else "float32",
    )


@dataclass
class Peaks:
    """Most memory of each process that descends from this one, in bytes."""

    by_process: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        """Reads what the kernel has counted so far: `VmHWM`."""
        for process in psutil.Process().children(recursive=True):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            [peak] = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")] or [0]
            self.by_process[process.pid] = max(peak, self.by_process.get(process.pid, 0))


@contextmanager
def _watched() -> Iterator[Peaks]:
    """The peaks of all processes that are started in the block, torchrun among them, which is smaller than any rank."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peaks.look()

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
