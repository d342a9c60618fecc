"""The loss for CPUs is TRL's own: so are the gradients, and so is what a step of several micro batches makes of them."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from subterra_jobs.train.batches.collators import PaddingCollator
from subterra_jobs.train.labelled_loss import LabelledLossTrainer
from subterra_jobs.train.model.base_model import load_tokenizer
from subterra_jobs.train.tokenized_dataset import encode
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, conversation

CITIES = ("Rome", "Ho Chi Minh City", "Oslo", "San Pedro de Atacama on the way to Antofagasta", "Ghent", "Riga", "Lisbon", "Aarhus")
MICRO_BATCH = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("base"))


def examples(tokenizer: PreTrainedTokenizerBase, cities: tuple[str, ...] = CITIES) -> Dataset:
    """Conversations of different lengths, so that every micro batch is padded and has another number of labels."""
    return Dataset.from_list([dict(encode(tokenizer, conversation(city, opener=None))) for city in cities])


def trainer_of(kind: type[SFTTrainer], base: Path, work: Path, accumulate: int) -> SFTTrainer:
    """A trainer without DeepSpeed whose steps are the gradients: plain gradient descent with a learning rate of one."""
    tokenizer = load_tokenizer(str(base), SYSTEM_PROMPT, ())
    config = SFTConfig(
        output_dir=str(work),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=MICRO_BATCH,
        per_device_eval_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=accumulate,
        max_steps=1,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        seed=3,
    )
    return kind(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=config,
        train_dataset=examples(tokenizer),
        eval_dataset=examples(tokenizer, CITIES[:3]),
        processing_class=tokenizer,
        data_collator=PaddingCollator(tokenizer.pad_token_id),
    )


def step(trainer: SFTTrainer) -> tuple[float, dict[str, Tensor]]:
    """The loss of one step, and the gradient of every parameter."""
    before = parameters(trainer.model)
    trainer.train()
    (loss,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return loss, {name: before[name] - after for name, after in parameters(trainer.model).items()}


def parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_loss_and_gradients_of_a_step_are_trls(base: Path, tmp_path: Path, accumulate: int):
    loss, gradients = step(trainer_of(LabelledLossTrainer, base, tmp_path, accumulate))
    expected_loss, expected = step(trainer_of(SFTTrainer, base, tmp_path, accumulate))
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradients[name], gradient, rtol=1e-3, atol=1e-6), name


def test_the_held_out_loss_is_trls(base: Path, tmp_path: Path):
    found, expected = (trainer_of(kind, base, tmp_path, 1).evaluate()["eval_loss"] for kind in (LabelledLossTrainer, SFTTrainer))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_output_layer_scores_only_positions_with_a_label_and_all_of_them_elsewhere(base: Path, tmp_path: Path):
    trainer = trainer_of(LabelledLossTrainer, base, tmp_path, 1)
    batch = PaddingCollator(0)(list(trainer.train_dataset)[:2])
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    labelled = int((batch["labels"][:, 1:] != -100).sum())
    assert outputs.logits.shape[:-1] == (labelled,)
    assert labelled < batch["labels"].numel() / 2
    assert trainer.model(batch["input_ids"]).logits.shape[:-1] == batch["input_ids"].shape
