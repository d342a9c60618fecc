"""How a model is trained: hyperparameters, and whether all weights change or adapters next to them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from subterra_api.v1alpha1.base import ApiModel, Seed


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

    optimizer: Literal["adamw", "muon"] | None = None
    """Optimizer that updates the weights."""
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
        return self


def require_pretrained(training: TrainingSettings, uri: str) -> None:
    """Raises ValueError if adapters would be trained next to weights that know nothing."""
    if training.method == "lora" and uri == "scratch":
        raise ValueError(
            "training.method: lora needs a pretrained base model, and scratch has weights that know nothing; name a model in "
            "baseModel.uri, or remove method"
        )
