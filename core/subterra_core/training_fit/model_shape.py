"""Shapes of base models: those of `model_shapes.yaml`, or that of a model's own `config.json`."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

SHAPES_FILE = "model_shapes.yaml"
Count = Annotated[int, Field(ge=1)]
DenseType = Literal[
    "gemma2", "gemma3_text", "granite", "llama", "ministral", "mistral", "olmo2", "phi3", "smollm3", "qwen2", "qwen3"
]
"""Values of `model_type` whose parameters are counted."""
TIED: frozenset[str] = frozenset({"gemma2", "gemma3_text", "smollm3"})
"""Types whose output layer is the embedding unless they say otherwise."""


class UnknownShapeError(ValueError):
    """The shape of a base model is not known, or its `config.json` is of an architecture that cannot be counted."""


class ModelShape(BaseModel):
    """What decides the memory of a dense decoder; the fields of its `config.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_type: DenseType
    hidden_size: Count
    num_hidden_layers: Count
    intermediate_size: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    vocab_size: Count
    tie_word_embeddings: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters: embeddings, attention, gated feed-forward and norms, as transformers builds these architectures."""
        hidden = self.hidden_size
        embeddings = self.vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * self._layer_parameters() + hidden

    def adapter_parameters(self, rank: int) -> int:
        """Number of parameters of LoRA adapters of all linear layers but the output layer."""
        queries, keys = self._projections()
        attention = 2 * (self.hidden_size + queries) + 2 * (self.hidden_size + keys)
        return rank * self.num_hidden_layers * (attention + 3 * (self.hidden_size + self.intermediate_size))

    def _projections(self) -> tuple[int, int]:
        """Widths of queries, and of keys and values."""
        size = self.head_dim or self.hidden_size // self.num_attention_heads
        return self.num_attention_heads * size, self.num_key_value_heads * size

    def _layer_parameters(self) -> int:
        size = self.head_dim or self.hidden_size // self.num_attention_heads
        queries, keys = self._projections()
        attention = 2 * self.hidden_size * (queries + keys)
        biases = queries + 2 * keys if self.model_type == "qwen2" else 0
        head_norms = {"qwen3": 2 * size, "gemma3_text": 2 * size, "olmo2": queries + keys}.get(self.model_type, 0)
        norms = 4 if self.model_type in ("gemma2", "gemma3_text") else 2
        return attention + biases + head_norms + 3 * self.hidden_size * self.intermediate_size + norms * self.hidden_size


@cache
def known_shapes() -> Mapping[str, ModelShape]:
    """Shapes by name of the model on the hub, `SmolLM2-135M-Instruct` and `scratch`."""
    entries = yaml.safe_load(files(__package__).joinpath(SHAPES_FILE).read_text())["models"]
    return {name: ModelShape.model_validate(entry["config"]) for entry in entries for name in entry["names"]}


def shape_of(uri: str) -> ModelShape:
    """The shape of the model at a `baseModel.uri`. Raises UnknownShapeError, for every `pvc://` and `s3://` too."""
    scheme, _, name = uri.rpartition("://")
    shape = known_shapes().get(name) if scheme in ("", "bundled", "hf") else None
    if shape is None:
        raise UnknownShapeError(f"the shape of {uri} is not known; pass the model's config.json with --model-shape FILE")
    return shape


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a model's `config.json`. Raises UnknownShapeError."""
    given = {name: value for name, value in config.items() if value is not None}
    defaults = {"num_key_value_heads": given.get("num_attention_heads"), "tie_word_embeddings": given.get("model_type") in TIED}
    try:
        return ModelShape.model_validate(defaults | given)
    except ValidationError as error:
        fields = ", ".join(dict.fromkeys(str(detail["loc"][0]) for detail in error.errors()))
        types = get_args(DenseType)
        raise UnknownShapeError(
            f"not the config.json of a dense model of type {', '.join(types[:-1])} or {types[-1]}: missing or unusable {fields}"
        ) from None
