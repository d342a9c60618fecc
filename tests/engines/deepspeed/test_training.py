"""A real training, through torchrun, TRL and DeepSpeed: it survives being killed, and leaves a model that can be served."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from subterra_api.job_contract.messages import Training
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.trainer import BatchLayout, deepspeed_config, sft_config
from subterra_jobs.train.training import train
from subterra_testkit.runs.training_inputs import dataset, training, training_task

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


@pytest.mark.slow
def test_a_killed_training_resumes_and_leaves_a_servable_model(tmp_path: Path):
    dataset(tmp_path / "data", train=120)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(TRAIN_UNTIL_KILLED), str(tmp_path)], check=False)
    assert killed.returncode == -9
    steps: list[int] = []
    summary = train(training_task(tmp_path, max_steps=30, checkpoint_steps=5), lambda step, *_: steps.append(step))
    assert summary.steps == steps[-1] == 30
    assert 5 <= summary.resumed_from_step < 30
    assert min(steps) > summary.resumed_from_step
    assert_servable(tmp_path / "model")


@pytest.mark.slow
def test_fewer_conversations_than_a_batch_are_judged_when_held_out_and_refused_to_train_on(tmp_path: Path):
    dataset(tmp_path / "data", train=8, held_out=1)
    summary = train(training_task(tmp_path, max_steps=2), lambda *_: None)
    assert summary.heldout_loss is not None
    refusal = r"8 training conversations do not fill a batch of 16; raise generation\.conversations"
    with pytest.raises(InvalidInputError, match=refusal):
        train(replace(training_task(tmp_path, batch_size=16), checkpoint_dir=tmp_path / "b"), lambda *_: None)


def assert_servable(model: Path) -> None:
    configs = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in model.iterdir()} >= {"model.safetensors"} | configs
    loaded, info = AutoModelForCausalLM.from_pretrained(model, output_loading_info=True)
    assert not any(info.values())
    assert loaded.dtype == torch.float32
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


@pytest.mark.parametrize(
    ("batch", "ranks", "length", "micro", "accumulate"),
    [(8, 1, 1024, 8, 1), (8, 2, 1024, 4, 1), (16, 1, 4096, 4, 4), (16, 8, 4096, 2, 1), (3, 2, 1024, 2, 1), (12, 1, 8192, 2, 6)],
)
def test_a_batch_is_spread_over_ranks_and_time(batch: int, ranks: int, length: int, micro: int, accumulate: int):
    assert BatchLayout.for_ranks(batch, ranks, length) == BatchLayout(micro, accumulate)


@pytest.mark.parametrize(("optimizer", "stage", "clip"), [("muon", 2, 0.0), ("muon", 0, 1.0), ("adamw", 3, 1.0)])
def test_muon_under_zero_is_not_clipped(optimizer: str, stage: int, clip: float, tmp_path: Path):
    settings = Training(**dict(training()) | {"optimizer": optimizer, "zero_stage": stage})
    assert sft_config(settings, 1, tmp_path).max_grad_norm == clip
    assert deepspeed_config(settings)["zero_optimization"]["stage"] == stage


@pytest.fixture(autouse=True)
def importable_in_subprocesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks and the killed stage import what this process can import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path))
