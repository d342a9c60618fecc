"""The trainer: TRL's SFTTrainer on DeepSpeed, for models on CPUs as well as on GPUs.

One code path serves both: device, precision and micro batch follow from the machine and the settings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from subterra_api.job_contract.messages import Training
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.checkpoints import mark_complete
from subterra_jobs.train.exchange import OnProgress
from subterra_jobs.train.labelled_loss import LabelledLossTrainer
from subterra_jobs.train.tokenized_dataset import Collator

MICRO_BATCH_TOKENS = 16384
"""Tokens per rank and forward pass; larger batches are accumulated."""
CPU_MICRO_BATCH_TOKENS = 2048
"""The same of all ranks together for a pretrained model on a CPU, whose activations take about a megabyte per token."""
WARMUP_SHARE = 0.05
MUON_MOMENTUM, ADAM_BETAS, WEIGHT_DECAY = 0.95, (0.9, 0.95), 0.01
ADAM_SHARE_OF_MUON = 0.25
"""AdamW trains what Muon cannot (embeddings, norms, biases), and needs smaller steps."""


@dataclass(frozen=True)
class BatchLayout:
    """How a global batch is divided."""

    micro: int
    accumulate: int

    @classmethod
    def for_ranks(cls, batch: int, ranks: int, longest: int, limit: int = MICRO_BATCH_TOKENS) -> "BatchLayout":
        """The layout with the largest micro batch of at most ``limit`` tokens, when conversations have at most ``longest``.

        ``batch`` is rounded up to a multiple of ``ranks``.
        """
        per_rank = -(-batch // ranks)
        accumulate = min(per_rank, -(-per_rank * longest // limit))
        while per_rank % accumulate:
            accumulate += 1
        return cls(per_rank // accumulate, accumulate)


def deepspeed_config(settings: Training) -> dict[str, Any]:
    """The settings for DeepSpeed; the trainer fills in ``auto``."""
    config: dict[str, Any] = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": {
            "stage": settings.zero_stage,
            "overlap_comm": torch.cuda.is_available(),
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000,
    }
    if settings.optimizer == "muon":
        # DeepSpeed's own Muon: torch's cannot work on ZeRO's flat partitions.
        config["zero_optimization"]["reduce_scatter"] = False
        config["optimizer"] = {"type": "Muon", "params": _muon(settings.learning_rate)}
    return config


def _muon(learning_rate: float) -> dict[str, Any]:
    return {
        "lr": learning_rate,
        "muon_lr": learning_rate,
        "adam_lr": learning_rate * ADAM_SHARE_OF_MUON,
        "momentum": MUON_MOMENTUM,
        "betas": list(ADAM_BETAS),
        "weight_decay": WEIGHT_DECAY,
        "torch_adam": True,  # DeepSpeed's own Adam would be compiled at run time
    }


@dataclass(frozen=True)
class Workload:
    """What the trainer's settings depend on beyond those of the run."""

    ranks: int
    longest: int
    """Tokens of the longest conversation."""
    dtype: torch.dtype

    pretrained: bool

    @property
    def pretrained_on_cpu(self) -> bool:
        return self.pretrained and not torch.cuda.is_available()


def sft_config(settings: Training, workload: Workload, checkpoints: Path) -> SFTConfig:
    """The settings for TRL's trainer."""
    gpu = torch.cuda.is_available()
    limit = CPU_MICRO_BATCH_TOKENS // workload.ranks if workload.pretrained_on_cpu else MICRO_BATCH_TOKENS
    layout = BatchLayout.for_ranks(settings.batch_size, workload.ranks, workload.longest, limit)
    return SFTConfig(
        output_dir=str(checkpoints),
        use_cpu=not gpu,
        bf16=workload.dtype == torch.bfloat16,
        fp16=False,
        deepspeed=deepspeed_config(settings),
        per_device_train_batch_size=layout.micro,
        per_device_eval_batch_size=layout.micro,
        gradient_accumulation_steps=layout.accumulate,
        gradient_checkpointing=gpu,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.02},
        warmup_steps=WARMUP_SHARE,
        optim="adamw_torch_fused",
        adam_beta1=ADAM_BETAS[0],
        adam_beta2=ADAM_BETAS[1],
        weight_decay=WEIGHT_DECAY,
        # ZeRO measures the norm after Muon's orthogonalisation, where clipping would only shrink every step.
        max_grad_norm=0.0 if settings.optimizer == "muon" and settings.zero_stage > 0 else 1.0,
        max_length=settings.max_length,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        dataloader_pin_memory=gpu,
        dataloader_drop_last=True,
        eval_strategy="steps",
        eval_steps=settings.checkpoint_steps,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=1 if workload.pretrained else 10,  # a step of a pretrained model takes seconds
        logging_first_step=True,
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Reports the trainer's losses, and marks complete checkpoints."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports a training or held-out loss."""
        logs = kwargs.get("logs") or {}
        if state.is_world_process_zero and ("loss" in logs or "eval_loss" in logs):
            self._on_progress(state.global_step, state.max_steps, logs.get("loss"), logs.get("eval_loss"))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Marks the checkpoint as complete once every rank has written its part."""
        torch.distributed.barrier()
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir, f"checkpoint-{state.global_step}"), args.world_size)


@dataclass(frozen=True)
class Splits:
    """The tokenized conversations."""

    train: Dataset
    held_out: Dataset


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: SFTConfig,
    splits: Splits,
    on_progress: OnProgress,
    *,
    labelled_loss: bool,
) -> SFTTrainer:
    """A trainer on DeepSpeed, with `LabelledLossTrainer` or TRL's own loss.

    Raises InvalidInputError when the training conversations do not fill a batch.
    """
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    if len(splits.train) < batch:
        raise InvalidInputError(
            f"{len(splits.train)} training conversations do not fill a batch of {batch}; raise generation.conversations or lower "
            "training.batchSize"
        )
    # An incomplete last batch is dropped in evaluation too, so a batch must not exceed the held-out conversations.
    config.per_device_eval_batch_size = max(1, min(config.per_device_eval_batch_size, len(splits.held_out) // config.world_size))
    trainer = (LabelledLossTrainer if labelled_loss else SFTTrainer)(
        model=model,
        args=config,
        train_dataset=splits.train,
        eval_dataset=splits.held_out,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[StageCallback(on_progress)],
    )
    if not trainer.is_deepspeed_enabled:
        raise RuntimeError("the trainer runs without DeepSpeed; ACCELERATE_USE_CPU or a similar variable must not be set")
    return trainer
