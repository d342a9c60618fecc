"""How a model is trained: hyperparameters, and whether all weights change or adapters next to them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from subterra_api.v1alpha1.base import ApiModel, Seed

Optimizer = Literal["adamw", "adamw8bit", "adamwbf16", "muon"]
WITHOUT_MASTER_COPY: tuple[Optimizer, ...] = ("adamw8bit", "adamwbf16")
"""Optimizers that update weights in bfloat16 in place. Each rank has all of the weights and states."""


class LoraSettings(ApiModel):
    """Low-rank adapters of all linear layers but the output layer."""

    rank: Annotated[int, Field(ge=16, le=128)] | None = None
    """Inner dimension of each adapter. Default: 64."""
    alpha: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Scale of the adapters: their product is multiplied by `alpha / rank`. Default: twice the rank."""


class TrainingSettings(ApiModel):
    """Supervised fine-tuning, by default of every parameter. Defaults depend on the kind of base model."""

    method: Literal["full", "lora"] = "full"
    """`full` changes every weight. `lora` trains small adapters next to the frozen linear layers and merges them at the end, to
    compare; it needs a pretrained base model and `adamw`. Default: full."""
    lora: LoraSettings | None = None
    """The adapters of `method: lora`."""

    optimizer: Optimizer | None = None
    """Optimizer that updates the weights. `adamw` keeps a float32 copy of them. `adamw8bit` (states in 8 bits) and `adamwbf16`
    (states in float32) have no such copy and round the weights at random to bfloat16, so that larger models fit a GPU; they need a
    pretrained base model and `zeroStage: 0`, their default. `muon` is for `scratch`."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Peak learning rate of the schedule. With `method: lora` the default is ten times that of a full training."""
    epochs: Annotated[int, Field(ge=1, le=100)] | None = None
    """Number of passes over the conversations."""
    max_steps: Annotated[int, Field(ge=1, le=1000000)] | None = None
    """Maximum number of optimizer steps, regardless of `epochs`."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Conversations per optimizer step, over all ranks."""
    max_length: Annotated[int, Field(ge=128, le=131072)] | None = None
    """Maximum tokens per conversation."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """DeepSpeed ZeRO stage, what is sharded over the GPUs: 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights."""
    seed: Seed | None = None
    """Random seed for the order of the conversations and, for `scratch`, the initial weights."""
    checkpoint_steps: Annotated[int, Field(ge=1, le=1000000)] | None = None
    """Steps between checkpoints, from which an interrupted training resumes."""

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.lora is not None and self.method != "lora":
            raise ValueError("lora has settings of method: lora, and method is full; set method: lora, or remove lora")
        if self.method == "lora" and self.optimizer == "muon":
            raise ValueError("method: lora needs optimizer: adamw: Muon is for whole weight matrices; remove optimizer")
        if self.method == "lora" and self.optimizer in WITHOUT_MASTER_COPY:
            raise ValueError(
                f"method: lora needs optimizer: adamw: {self.optimizer} saves the memory of a float32 copy of what is trained, "
                "which is small for adapters; remove optimizer"
            )
        return self

    @model_validator(mode="after")
    def _divides_what_can_be_divided(self) -> Self:
        if self.optimizer in WITHOUT_MASTER_COPY and self.zero_stage:
            raise ValueError(
                f"zeroStage: {self.zero_stage} divides the float32 copy of the weights among the ranks, and optimizer: "
                f"{self.optimizer} has none; set zeroStage: 0, or optimizer: adamw"
            )
        return self


def require_pretrained(training: TrainingSettings, uri: str) -> None:
    """Raises ValueError if adapters would be trained next to weights that know nothing, or these would be rounded to bfloat16."""
    if training.method == "lora" and uri == "scratch":
        raise ValueError(
            "training.method: lora needs a pretrained base model, and scratch has weights that know nothing; name a model in "
            "baseModel.uri, or remove method"
        )
    if training.optimizer in WITHOUT_MASTER_COPY and uri == "scratch":
        raise ValueError(
            f"training.optimizer: {training.optimizer} needs a pretrained base model, and scratch is trained in float32; name a "
            "model in baseModel.uri, or remove optimizer"
        )
