"""transformers' trainer on a step plan: many micro-batches make the step of one, and a resumed epoch misses and repeats nothing."""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from subterra_jobs.train.batches.collators import PaddingCollator, in_one_row
from subterra_jobs.train.batches.micro_batches import MicroBatches
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.batches.step_plan import StepPlan
from subterra_jobs.train.labelled_loss import LabelledLossTrainer
from subterra_jobs.train.model.base_model import load_tokenizer
from subterra_jobs.train.tokenized_dataset import Example, encode
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, conversation

CITIES = ("Rome", "Ho Chi Minh City", "Oslo", "San Pedro de Atacama on the way to Antofagasta", "Ghent", "Riga", "Lisbon", "Aarhus")
SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "optim": "sgd",
    "learning_rate": 1.0,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "seed": 3,
}


class PlannedTrainer(MicroBatches, LabelledLossTrainer):
    """As `CpuTrainer`, without DeepSpeed."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("base"))


def step_of(kind: type[SFTTrainer], base: Path, work: Path, **arguments: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step over all conversations: with a learning rate of one, gradient descent shows them."""
    tokenizer, padded = load_tokenizer(str(base), SYSTEM_PROMPT, ()), arguments.get("collate") is None
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert padded or use_segments(model)
    trainer = kind(
        model=model,
        args=SFTConfig(
            str(work),
            max_steps=1,
            save_strategy="no",
            per_device_train_batch_size=len(CITIES),
            dataset_kwargs={"skip_prepare_dataset": True},
            **SETTINGS,
        ),
        train_dataset=Dataset.from_list([dict(encode(tokenizer, conversation(city, opener=None))) for city in CITIES]),
        processing_class=tokenizer,
        **({"data_collator": PaddingCollator(tokenizer.pad_token_id)} if padded else {}),
        **arguments,
    )
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    (loss,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return loss, {name: before[name] - value.detach() for name, value in trainer.model.named_parameters()}


def test_a_step_of_many_micro_batches_without_padding_is_that_of_one_padded_batch(base: Path, tmp_path: Path):
    tokenizer = load_tokenizer(str(base), SYSTEM_PROMPT, ())
    lengths = [encode(tokenizer, conversation(city, opener=None))["length"] for city in CITIES]
    plan = StepPlan(lengths, len(CITIES), ranks=1, limit=max(lengths) + 1, seed=1)
    assert len(plan.epoch(0)[0][0]) > 2
    loss, gradients = step_of(PlannedTrainer, base, tmp_path, plan=plan, collate=in_one_row)
    expected_loss, expected = step_of(LabelledLossTrainer, base, tmp_path)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        # The rest is float32's rounding of weights that are about 1, not that of the gradients.
        assert float((gradients[name] - gradient).abs().max()) <= 1e-6 * max(1.0, scale), name


class Watched:
    """Collates conversations that are numbers, and notes which were trained."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        numbers = [int(example["input_ids"][0]) for example in examples]
        self.seen += numbers
        return {"input_ids": torch.tensor([numbers]), "labels": torch.tensor([numbers])}


class Number(torch.nn.Module):
    """A model of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"loss": (self.weight * input_ids).pow(2).mean()}


class KillAt(TrainerCallback):  # type: ignore[misc]
    """Ends the process, as far as a test can, after a step and before its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise InterruptedError


class NumberTrainer(MicroBatches, Trainer):  # type: ignore[misc]
    """transformers' own trainer on a step plan."""


def trainer_of(work: Path, plan: StepPlan, watched: Watched, kill_at: int | None) -> NumberTrainer:
    arguments = TrainingArguments(str(work), num_train_epochs=3, save_steps=4, per_device_train_batch_size=plan.batch, **SETTINGS)
    numbers = Dataset.from_list([{"input_ids": [number], "labels": [number]} for number in range(len(plan.lengths))])
    callbacks = [KillAt(kill_at)] if kill_at is not None else []
    return NumberTrainer(model=Number(), args=arguments, plan=plan, collate=watched, train_dataset=numbers, callbacks=callbacks)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_steps_every_conversation_is_trained_once_an_epoch(seed: int, tmp_path: Path):
    rng = random.Random(seed)
    lengths = [rng.randint(40, 400) for _ in range(53)]
    plan = StepPlan(lengths, batch=5, ranks=1, limit=700, seed=seed)
    per_epoch, trained = len(plan), Counter[int]()
    order: list[list[int]] = []  # of each step that counts, the conversations
    resume: str | None = None
    for kill_at in [*sorted(rng.sample(range(5, 3 * per_epoch), 3)), None]:
        watched = Watched()
        first = int(resume.rpartition("-")[2]) if resume else 0
        trainer = trainer_of(tmp_path, plan, watched, kill_at)
        with suppress(InterruptedError):
            trainer.train(resume_from_checkpoint=resume)
        kept = (kill_at - 1) // 4 * 4 if kill_at is not None else 3 * per_epoch  # what came after the last checkpoint is lost
        sizes = [sum(len(micro) for micro in shares[0]) for epoch in range(3) for shares in plan.epoch(epoch)]
        count = sum(sizes[first:kept])
        trained.update(watched.seen[:count])
        order.append(watched.seen[:count])
        resume = str(tmp_path / f"checkpoint-{kept}")
    assert set(trained.values()) == {3} and len(trained) == 53
    in_order = [number for part in order for number in part]
    for epoch in range(3):
        assert sorted(in_order[epoch * 53 : (epoch + 1) * 53]) == list(range(53))
