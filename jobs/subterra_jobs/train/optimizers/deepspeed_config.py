"""DeepSpeed's settings for each optimizer."""

from typing import Any

import torch

from subterra_api.job_contract.messages import Training
from subterra_api.v1alpha1.training_settings import WITHOUT_MASTER_COPY

MUON_MOMENTUM, ADAM_BETAS, WEIGHT_DECAY = 0.95, (0.9, 0.95), 0.01
ADAM_SHARE_OF_MUON = 0.25
"""AdamW trains what Muon cannot (embeddings, norms, biases), and needs smaller steps."""


def has_master_copy(settings: Training) -> bool:
    """Whether DeepSpeed keeps float32 copies of weights in bfloat16 for this optimizer."""
    return settings.optimizer not in WITHOUT_MASTER_COPY


def deepspeed_config(settings: Training, dtype: torch.dtype) -> dict[str, Any]:
    """The settings for DeepSpeed, for weights in ``dtype``; the trainer fills in ``auto``."""
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
    elif not has_master_copy(settings):
        # DeepSpeed then takes weights, gradients and optimizer as they are. Enabled, it would copy the weights to float32.
        config["bf16"]["enabled"] = False
    elif dtype == torch.bfloat16 and settings.zero_stage > 0:
        # In bfloat16 a sum of many micro-batches loses what is less than a 256th of it. Without ZeRO DeepSpeed has no other sum,
        # and its Muon takes the gradients as they are.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        if settings.zero_stage == 1:
            config["bf16"]["immediate_grad_update"] = True  # else the gradients are kept in both precisions
            config["communication_data_type"] = "fp32"  # else the sum is rounded before the ranks exchange it, once a step
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
