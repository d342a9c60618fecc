"""A real training, through torchrun, TRL and DeepSpeed: it survives being killed, and leaves a model that can be served."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from subterra_api.job_contract.messages import Training
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.batches.collators import PaddingCollator
from subterra_jobs.train.batches.step_plan import CPU_MICRO_BATCH_TOKENS
from subterra_jobs.train.exchange import TRAIN_FILE
from subterra_jobs.train.model.base_model import load_tokenizer, training_dtype
from subterra_jobs.train.optimizers.deepspeed_config import deepspeed_config
from subterra_jobs.train.ranks.launcher import TrainingInterruptedError
from subterra_jobs.train.tokenized_dataset import load_examples
from subterra_jobs.train.trainer import Workload, build_trainer, sft_config
from subterra_jobs.train.training import train
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, conversation, dataset, terminated_after, training, training_task

TRAIN_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
from subterra_jobs.train.training import train
from subterra_testkit.runs.training_inputs import training_task

def kill_at_ten(step, total, loss, heldout_loss):
    if step >= 10:
        os.kill(os.getpid(), signal.SIGKILL)

train(training_task(Path(sys.argv[1]), max_steps=30, checkpoint_steps=5), kill_at_ten)
"""


def test_a_killed_training_resumes_and_leaves_a_servable_model(tmp_path: Path):
    data = dataset(tmp_path / "data", train=120, held_out=1)
    with (data / TRAIN_FILE).open("a") as file:
        file.write(json.dumps({"messages": conversation("Rome" * 200)}) + "\n")
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(TRAIN_UNTIL_KILLED), str(tmp_path)], check=False)
    assert killed.returncode == -9
    steps: list[int] = []
    summary = train(training_task(tmp_path, max_steps=30, checkpoint_steps=5), lambda step, *_: steps.append(step))
    assert summary.steps == steps[-1] == 30
    assert 5 <= summary.resumed_from_step < 30
    assert min(steps) > summary.resumed_from_step
    assert summary.left_out == 1, "one conversation is longer than maxLength"
    assert summary.heldout_loss is not None, "one held-out conversation is less than a batch"
    assert_servable(tmp_path / "model", torch.float32)


def test_a_pretrained_model_is_trained_in_bfloat16_by_two_ranks_and_resumes_after_sigterm(tmp_path: Path):
    base = small_llama(tmp_path / "base")
    if training_dtype(str(base)) != torch.bfloat16:
        pytest.skip("this processor has no AMX or AVX-512 for bfloat16")
    dataset(tmp_path / "data", train=32)
    pace = {"max_steps": 30, "checkpoint_steps": 4, "batch_size": 32}
    small = training_task(tmp_path, **pace, optimizer="adamw", learning_rate=0.003)
    task = replace(small, base_model=str(base), ranks=2)
    losses: list[float] = []
    with pytest.raises(TrainingInterruptedError):
        train(task, terminated_after(4, losses))
    # A batch has every conversation once, so the first loss is that of the dataset, however many ranks share it.
    assert losses[0] == pytest.approx(loss_per_label(base, tmp_path / "data" / TRAIN_FILE), rel=0.01)
    summary = train(task, lambda step, total, loss, _: losses.append(loss) if loss is not None else None)
    assert summary.steps == 30
    assert 4 <= summary.resumed_from_step < 30
    assert losses[-1] < 0.8 * losses[0]
    assert_servable(tmp_path / "model", torch.bfloat16)


def loss_per_label(base: Path, file: Path) -> float:
    """The mean loss of all labels of the conversations in a file."""
    tokenizer = load_tokenizer(str(base), SYSTEM_PROMPT, ())
    batch = PaddingCollator(tokenizer.pad_token_id)(list(load_examples(tokenizer, file, 256).dataset))
    with torch.no_grad():
        loss: torch.Tensor = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(**batch).loss
    return float(loss)


def test_fewer_training_conversations_than_a_batch_are_refused():
    batch = SimpleNamespace(per_device_train_batch_size=8, world_size=2, seed=42)
    conversations: Any = SimpleNamespace(train=Dataset.from_dict({"length": [256] * 8}), held_out=range(1))
    refusal = r"8 training conversations do not fill a batch of 16; raise generation\.conversations"
    with pytest.raises(InvalidInputError, match=refusal):
        build_trainer(None, None, batch, conversations, workload(), None, training())  # type: ignore[arg-type]


def assert_servable(model: Path, dtype: torch.dtype) -> None:
    configs = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in model.iterdir()} >= {"model.safetensors"} | configs
    loaded, info = AutoModelForCausalLM.from_pretrained(model, output_loading_info=True)
    assert not any(info.values())
    assert loaded.dtype == dtype
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert loaded.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert loaded.generate(**asked, max_new_tokens=3).shape[1] > asked["input_ids"].shape[1]


def test_a_dataset_without_a_file_is_refused_before_anything_starts(tmp_path: Path):
    (dataset(tmp_path / "data") / "heldout.jsonl").unlink()
    with pytest.raises(InvalidInputError, match=r"no heldout\.jsonl"):
        train(training_task(tmp_path), lambda *_: None)


@pytest.mark.parametrize(("optimizer", "stage", "clip"), [("muon", 2, 0.0), ("muon", 0, 1.0), ("adamw", 3, 1.0)])
def test_muon_under_zero_is_not_clipped(optimizer: str, stage: int, clip: float, tmp_path: Path):
    settings = Training(**dict(training()) | {"optimizer": optimizer, "zero_stage": stage})
    assert sft_config(settings, workload(), tmp_path).max_grad_norm == clip
    assert deepspeed_config(settings, torch.float32)["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize(
    ("optimizer", "stage", "dtype", "summed"),
    [
        ("adamw", 1, torch.bfloat16, "fp32"),
        ("adamw", 3, torch.bfloat16, "fp32"),
        ("adamw", 0, torch.bfloat16, None),
        ("adamw", 2, torch.float32, None),
        ("muon", 2, torch.bfloat16, None),
    ],
)
def test_gradients_are_summed_in_float32_where_weights_have_less_and_deepspeed_can(
    optimizer: str, stage: int, dtype: torch.dtype, summed: str | None
):
    settings = Training(**dict(training()) | {"optimizer": optimizer, "zero_stage": stage})
    assert deepspeed_config(settings, dtype).get("data_types", {}).get("grad_accum_dtype") == summed


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has memory for larger batches")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_pretrained_model_on_cpus_gets_small_micro_batches_in_the_machines_precision(
    ranks: int, dtype: torch.dtype, tmp_path: Path
):
    config = sft_config(training(batch_size=16), Workload(ranks, 500, dtype, pretrained=True), tmp_path)
    assert config.bf16 == (dtype == torch.bfloat16)
    assert config.fp16 is False
    assert ranks * config.per_device_eval_batch_size * 500 <= max(CPU_MICRO_BATCH_TOKENS, ranks * 500)
    assert ranks * config.per_device_train_batch_size * config.gradient_accumulation_steps == 16
    assert config.logging_steps == 1


def workload() -> Workload:
    """The tiny model with conversations of 256 tokens, on one rank."""
    return Workload(ranks=1, longest=256, dtype=torch.float32, pretrained=False)


@pytest.fixture(autouse=True)
def importable_in_subprocesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks and the killed stage import what this process can import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path))
