"""LoRA: adapters learn, the weights under them stay as they were, and merged they are the same model without adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import SFTConfig

from subterra_api.job_contract.messages import Lora
from subterra_core.training_fit.model_shape import shape_from_config
from subterra_jobs.train.batches.collators import in_one_row
from subterra_jobs.train.batches.micro_batches import MicroBatches
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.batches.step_plan import StepPlan
from subterra_jobs.train.labelled_loss import LabelledLossTrainer
from subterra_jobs.train.model.adapters import adapter_parameters, export_merged, lora_config
from subterra_jobs.train.model.base_model import load_tokenizer
from subterra_jobs.train.tokenized_dataset import encode
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, conversation

CITIES = ("Rome", "Ho Chi Minh City", "Oslo", "San Pedro de Atacama", "Ghent", "Riga", "Lisbon", "Aarhus")
LORA = Lora(rank=16, alpha=32)
STEPS = 12


class AdapterTrainer(MicroBatches, LabelledLossTrainer):
    """As `CpuTrainer`, without DeepSpeed."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterTrainer:
    """Adapters after some steps, in micro-batches without padding."""
    tokenizer = load_tokenizer(str(base), SYSTEM_PROMPT, ())
    examples: list[Any] = [dict(encode(tokenizer, spoken(city))) for city in CITIES]
    lengths: list[int] = [example["length"] for example in examples]
    model = whole(base)
    assert use_segments(model)
    arguments: dict[str, Any] = {
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "learning_rate": 0.01, "lr_scheduler_type": "constant",
        "logging_steps": 1, "report_to": [], "disable_tqdm": True, "seed": 3, "save_strategy": "no", "max_steps": STEPS,
        "per_device_train_batch_size": len(CITIES), "dataset_kwargs": {"skip_prepare_dataset": True},
    }  # fmt: skip
    trainer = AdapterTrainer(
        model=model,
        args=SFTConfig(str(tmp_path_factory.mktemp("work")), **arguments),
        plan=StepPlan(lengths, len(CITIES), ranks=1, limit=2 * max(lengths), seed=1),
        collate=in_one_row,
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
        peft_config=lora_config(LORA),
    )
    trainer.train()
    return trainer


def whole(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def spoken(city: str) -> Any:
    return conversation(city, opener=None)


def losses(trainer: AdapterTrainer) -> Sequence[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_adapters_learn_while_every_weight_of_the_base_model_stays_as_it_was(trained: AdapterTrainer, base: Path) -> None:
    assert losses(trained)[-1] < 0.95 * losses(trained)[0]
    before = whole(base).state_dict()
    for name, weight in trained.model.get_base_model().state_dict().items():
        if "lora_" not in name:
            assert torch.equal(weight, before[name.replace(".base_layer", "")]), name
    trainable = {name for name, parameter in trained.model.named_parameters() if parameter.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)


def test_all_linear_layers_but_the_output_have_adapters_and_as_many_parameters_as_are_counted(
    trained: AdapterTrainer, base: Path
) -> None:
    model = whole(base)
    counted = sum(parameter.numel() for parameter in trained.model.parameters() if parameter.requires_grad)
    assert counted == adapter_parameters(model, LORA.rank)
    assert counted == shape_from_config(model.config.to_dict()).adapter_parameters(LORA.rank)


def test_a_merged_model_is_an_ordinary_directory_and_answers_as_the_adapters_do(
    trained: AdapterTrainer, base: Path, tmp_path: Path
) -> None:
    trained.save_model(str(tmp_path / "adapters"))
    export_merged(whole(base), tmp_path / "adapters", trained.processing_class, tmp_path / "model")
    saved = sum(file.stat().st_size for file in (tmp_path / "adapters").glob("*.safetensors"))
    assert saved < 1.2 * 4 * adapter_parameters(whole(base), LORA.rank)
    merged, info = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())
    assert not list((tmp_path / "model").glob("adapter*"))
    adapted = PeftModel.from_pretrained(whole(base), tmp_path / "adapters").eval()
    tokens = torch.tensor([encode(trained.processing_class, spoken("Rome"))["input_ids"]])
    with torch.no_grad():
        expected, found, untrained = (model(tokens).logits for model in (adapted, merged.eval(), whole(base).eval()))
    scale = float((expected - untrained).abs().max())
    assert scale > 0.1
    assert float((found - expected).abs().max()) < 1e-4 * max(1.0, scale)
