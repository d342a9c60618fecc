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
from subterra_jobs.train.batches.collators import PaddingCollator, in_one_row
from subterra_jobs.train.batches.micro_batches import MicroBatches
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.batches.step_plan import StepPlan, token_limit
from subterra_jobs.train.checkpoints.bounded_saves import BoundedSaves, agreed
from subterra_jobs.train.checkpoints.save_cadence import checkpoint_bytes, require_room
from subterra_jobs.train.exchange import Exchange
from subterra_jobs.train.labelled_loss import LabelledLossTrainer
from subterra_jobs.train.model.adapters import adapter_parameters, lora_config
from subterra_jobs.train.optimizers.deepspeed_config import ADAM_BETAS, WEIGHT_DECAY, deepspeed_config, has_master_copy
from subterra_jobs.train.ranks.freed_memory import FreedMemoryCallback
from subterra_jobs.train.ranks.rank_failure import require_finite

WARMUP_SHARE = 0.05


@dataclass(frozen=True)
class Workload:
    """What the trainer's settings depend on beyond those of the run."""

    ranks: int
    longest: int
    """Tokens of the longest conversation."""
    dtype: torch.dtype
    pretrained: bool
    in_place: bool = False
    """Whether weights in bfloat16 are updated without a float32 copy of them."""

    @property
    def pretrained_on_cpu(self) -> bool:
        return self.pretrained and not torch.cuda.is_available()

    @property
    def token_limit(self) -> int:
        return token_limit(self.ranks, pretrained_on_cpu=self.pretrained_on_cpu, in_place=self.in_place)


def sft_config(settings: Training, workload: Workload, checkpoints: Path) -> SFTConfig:
    """The settings for TRL's trainer."""
    gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(checkpoints),
        use_cpu=not gpu,
        bf16=workload.dtype == torch.bfloat16 and has_master_copy(settings),
        fp16=False,
        deepspeed=deepspeed_config(settings, workload.dtype),
        per_device_train_batch_size=-(-settings.batch_size // workload.ranks),
        per_device_eval_batch_size=max(1, workload.token_limit // workload.longest),
        gradient_accumulation_steps=1,  # a step's micro-batches are those of its `StepPlan`
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
        packing=False,  # `MicroBatches` does it, on CPUs too
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=gpu,
        dataloader_drop_last=True,
        eval_strategy="steps",
        eval_steps=settings.checkpoint_steps,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=None,  # `BoundedSaves` removes what is superseded
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=1 if workload.pretrained else 10,  # a step of a pretrained model takes seconds
        logging_first_step=True,
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
    )


@dataclass(frozen=True)
class Splits:
    """The tokenized conversations."""

    train: Dataset
    held_out: Dataset


class CpuTrainer(BoundedSaves, MicroBatches, LabelledLossTrainer):
    """For CPUs: the output layer only where there are labels."""


class FusedLossTrainer(BoundedSaves, MicroBatches, SFTTrainer):  # type: ignore[misc]
    """With TRL's own loss, which is fused with the output layer on GPUs."""


StageTrainer = CpuTrainer | FusedLossTrainer


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Reports the trainer's losses, and ends the training after the current step when the stage asks for it."""

    def __init__(self, trainer: StageTrainer, exchange: Exchange) -> None:
        self._trainer, self._exchange = trainer, exchange

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports a training or held-out loss."""
        logs = kwargs.get("logs") or {}
        if state.is_local_process_zero and ("loss" in logs or "eval_loss" in logs):
            self._exchange.report((state.global_step, state.max_steps, logs.get("loss"), logs.get("eval_loss")))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raises InvalidInputError, on every rank, if the training has diverged, before its weights are kept."""
        require_finite((kwargs.get("metrics") or {}).get("eval_loss"), state.global_step)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """From here on a failure is no longer that of the checkpoint."""
        self._trainer.began = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Spares one rank the copy of its gradients that DeepSpeed without ZeRO makes to sum them over all ranks."""
        if args.world_size == 1 and not self._trainer.deepspeed.zero_optimization():
            self._trainer.deepspeed.enable_backward_allreduce = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the state and ends, if `Exchange.request_stop` was called in any pod."""
        if agreed(self._exchange.stop_requested()):
            self._trainer.stopping = control.should_save = control.should_training_stop = True
            control.should_evaluate = False  # the pod is about to be killed


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: SFTConfig,
    splits: Splits,
    workload: Workload,
    exchange: Exchange,
    settings: Training,
) -> StageTrainer:
    """A trainer on DeepSpeed. With `method: lora` it trains adapters of the model, and its checkpoints hold nothing else.

    Raises InvalidInputError when the training conversations do not fill a batch, and InfrastructureError when a checkpoint does not
    fit on its volume.
    """
    plan = _step_plan(config, splits, workload)
    parameters = _trained_parameters(model, settings)
    needed = checkpoint_bytes(parameters, workload.dtype.itemsize, settings.zero_stage, settings.optimizer)
    require_room(Path(config.output_dir), needed)
    # An incomplete last batch is dropped in evaluation, so a batch must not exceed the held-out conversations.
    config.per_device_eval_batch_size = max(1, min(config.per_device_eval_batch_size, len(splits.held_out) // config.world_size))
    trainer: StageTrainer = (CpuTrainer if workload.pretrained_on_cpu else FusedLossTrainer)(
        model=model,
        args=config,
        plan=plan,
        collate=in_one_row if use_segments(model) else PaddingCollator(tokenizer.pad_token_id),
        checkpoint_bytes=needed,
        train_dataset=splits.train,
        eval_dataset=splits.held_out,
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora) if settings.lora is not None else None,
        optimizer_cls_and_kwargs=None if has_master_copy(settings) else _in_place(settings),
    )
    trainer.add_callback(StageCallback(trainer, exchange))
    if config.use_cpu:
        trainer.add_callback(FreedMemoryCallback())
    if not trainer.is_deepspeed_enabled:
        raise RuntimeError("the trainer runs without DeepSpeed; ACCELERATE_USE_CPU or a similar variable must not be set")
    return trainer


def _step_plan(config: SFTConfig, splits: Splits, workload: Workload) -> StepPlan:
    """The conversations of each step. Raises InvalidInputError if there are too few for one step."""
    batch = config.per_device_train_batch_size * config.world_size
    plan = StepPlan(list(splits.train["length"]), batch, config.world_size, workload.token_limit, config.seed)
    if not len(plan):
        raise InvalidInputError(
            f"{len(splits.train)} training conversations do not fill a batch of {plan.conversations_per_step}; raise "
            "generation.conversations or lower training.batchSize"
        )
    return plan


def _trained_parameters(model: PreTrainedModel, settings: Training) -> int:
    """The number of parameters that are trained, on all ranks together."""
    if settings.lora is not None:
        return adapter_parameters(model, settings.lora.rank)
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())


def _in_place(settings: Training) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """An optimizer that needs no float32 copy of the weights, and its settings; torchao is loaded here alone."""
    from subterra_jobs.train.optimizers.bfloat16_adamw import Bfloat16AdamW

    rates: dict[str, Any] = {"lr": settings.learning_rate, "betas": ADAM_BETAS, "weight_decay": WEIGHT_DECAY}
    return Bfloat16AdamW, rates | {"eight_bits": settings.optimizer == "adamw8bit", "seed": settings.seed}
