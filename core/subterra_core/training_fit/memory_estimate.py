"""Bytes that a rank of a training needs: model states, activations, output layer, buffers.

States follow ZeRO's arithmetic (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1) with the optimizer states that
DeepSpeed 0.19 keeps for bfloat16: a float32 master copy next to the optimizer's own, and gradients that are summed in float32.
With AdamW that is 18 bytes a parameter; a checkpoint of 14.0 bytes a parameter, measured, which has no gradients, agrees.
Without a master copy it is 8.03 with states in 8 bits and 14 with states in float32; states measured on a CPU (ADR 028).
Buffers are DeepSpeed's defaults, the output layer's are those of TRL 1.16. Activations are an estimate that agrees with an audit
of the paper's three runs, to about 3 GB at 8 billion parameters. No coefficient has been measured on a GPU.
"""

import math
from dataclasses import dataclass
from typing import Literal

from subterra_api.v1alpha1.training_settings import WITHOUT_MASTER_COPY, Optimizer
from subterra_core.training_fit.model_shape import ModelShape

Precision = Literal["bfloat16", "float32"]
MICRO_BATCH_TOKENS, IN_PLACE_MICRO_BATCH_TOKENS, CPU_MICRO_BATCH_TOKENS = 16384, 4096, 1024
"""Tokens per forward pass: of each rank, the same with an optimizer without a float32 copy of the weights, and of all ranks
together for a pretrained model on a CPU, as in `train/batches/step_plan.py`."""
WEIGHT_BYTES: dict[Precision, int] = {"bfloat16": 2, "float32": 4}
"""Of a weight."""
OPTIMIZER_BYTES: dict[Optimizer, float] = {"adamw": 12, "adamw8bit": 2 + 2 * 4 / 256, "adamwbf16": 8, "muon": 12}
"""Float32 master copy, and both of Adam's moments. Muon has one moment for its matrices and Adam's two for the rest: no more. The
other two have the moments alone: in float32, or in 8 bits with a float32 scale for each 256 of them."""
HIDDEN_TENSORS, FEED_FORWARD_TENSORS = 12, 4
"""Tensors kept for the backward pass of a layer, per token: twelve as wide as the model (inputs,
norms in float32, queries, keys, values, attention output), four as wide as the feed-forward layer (gate, up, activation, product).
With SmolLM2 on a CPU this gives 0.8 MB a token; about one was observed."""
BUCKET = 500_000_000
"""`reduce_bucket_size` of DeepSpeed, in elements."""
LIVE_PARAMETERS = 1_000_000_000
"""`stage3_max_live_parameters` and `sub_group_size` of DeepSpeed, in elements."""
PIECE, PIECE_BYTES = 2**24, 40
"""Elements that `Bfloat16AdamW` updates at once, and bytes of their temporaries: ten of four bytes at the same time."""
HEAD_TILE = 4096 * 8192 * 4
"""A float32 tile of logits in TRL's fused loss: 4,096 tokens of part of the vocabulary."""
CUDA_BASE = 1_500_000_000
"""CUDA context, NCCL, workspaces of kernels and fragmentation: what the audit's peaks have beyond their parts."""
CPU_BASE = 950_000_000
"""Python with torch, transformers, TRL and DeepSpeed loaded, measured before a rank loads its model; 400 MB are files."""
HEAP_GROWTH = 1_700_000_000
"""What the heap has beyond activations and output layer while a pretrained model is trained on a CPU. It grows with the steps, and
why has not been found: this is what was left over at the peaks of two trainings of the bundled model by two ranks, with
conversations of up to 482 tokens (after 55 steps) and 627 tokens (after 84)."""
CUDA_PROCESS = 3_000_000_000
"""The same in host memory with CUDA's libraries. Assumed."""


@dataclass(frozen=True)
class TrainingSetup:
    """A training, as far as its memory depends on it."""

    shape: ModelShape
    optimizer: Optimizer
    zero_stage: int
    ranks: int
    batch_size: int
    """Conversations per optimizer step, over all ranks."""
    max_length: int
    """Tokens of the longest conversation."""
    on_gpu: bool
    precision: Precision = "bfloat16"
    pretrained: bool = True
    lora_rank: int | None = None
    """Of adapters that are trained in place of the weights."""

    @property
    def trained_parameters(self) -> int:
        """Parameters with gradients and optimizer states."""
        return self.shape.parameters if self.lora_rank is None else self.shape.adapter_parameters(self.lora_rank)

    @property
    def gradient_bytes(self) -> int:
        """Of a gradient. Those of a step are summed in float32 where the trainer asks DeepSpeed to (`deepspeed_config`)."""
        return 4 if self.sums_in_float32 else WEIGHT_BYTES[self.precision]

    @property
    def sums_in_float32(self) -> bool:
        """Whether weights in bfloat16 have gradients in float32."""
        return self.precision == "bfloat16" and (self.in_place or (self.zero_stage > 0 and self.optimizer == "adamw"))

    @property
    def in_place(self) -> bool:
        """Whether weights in bfloat16 are updated without a float32 copy of them."""
        return self.optimizer in WITHOUT_MASTER_COPY

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass, as the trainer does on GPUs."""
        return self.on_gpu

    @property
    def micro_batch(self) -> int:
        """Conversations of the maximum length per rank and forward pass."""
        return min(self._per_rank, max(1, self._token_limit // self.max_length))

    @property
    def tokens(self) -> int:
        """Most tokens per rank and forward pass."""
        return min(self._per_rank * self.max_length, max(self._token_limit, self.max_length))

    @property
    def _per_rank(self) -> int:
        return -(-self.batch_size // self.ranks)

    @property
    def _token_limit(self) -> int:
        shared = self.pretrained and not self.on_gpu
        if shared:
            return CPU_MICRO_BATCH_TOKENS // self.ranks
        return IN_PLACE_MICRO_BATCH_TOKENS if self.in_place else MICRO_BATCH_TOKENS


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one rank: on its GPU, or in host memory without one."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    """Output layer and loss."""
    buckets: int
    """Buffers of DeepSpeed's communication and gathered weights."""
    step: int
    """Temporaries of an optimizer step, which come when activations are gone."""
    base: int
    """What a process takes without a model and, in a training on a CPU, what its heap keeps."""

    @property
    def states(self) -> int:
        return self.weights + self.gradients + self.optimizer

    @property
    def peak(self) -> int:
        """The larger of backward pass and optimizer step."""
        return self.states + self.buckets + self.base + max(self.activations + self.head, self.step)


def estimate_memory(setup: TrainingSetup, *, fused: bool = True) -> MemoryEstimate:
    """The memory of each rank. ``fused``: the optimizer updates weights without copies of them, as the trainer's does."""
    trained, width = setup.trained_parameters, WEIGHT_BYTES[setup.precision]
    weights = setup.shape.parameters + (0 if setup.lora_rank is None else trained)
    updated = _share(setup, trained, from_stage=1)
    return MemoryEstimate(
        weights=width * _share(setup, weights, from_stage=3),
        gradients=setup.gradient_bytes * _share(setup, trained, from_stage=2),
        optimizer=math.ceil(OPTIMIZER_BYTES[setup.optimizer] * updated),
        activations=_activations(setup),
        head=_head(setup),
        buckets=_buckets(setup),
        step=_step(setup, updated, fused=fused),
        base=_base(setup),
    )


def _base(setup: TrainingSetup) -> int:
    """A process without a model, and what its heap keeps."""
    if setup.on_gpu:
        return CUDA_BASE
    return CPU_BASE + (HEAP_GROWTH if setup.pretrained else 0)


def _share(setup: TrainingSetup, count: int, *, from_stage: int) -> int:
    """What each rank has of ``count``, which is divided among the ranks from this ZeRO stage on."""
    return -(-count // setup.ranks) if setup.zero_stage >= from_stage else count


def _activations(setup: TrainingSetup) -> int:
    """The inputs of all layers and one layer's tensors with gradient checkpointing, else all layers' tensors."""
    shape, width = setup.shape, WEIGHT_BYTES[setup.precision]
    layer = width * (HIDDEN_TENSORS * shape.hidden_size + FEED_FORWARD_TENSORS * shape.intermediate_size)
    if not setup.gradient_checkpointing:
        return setup.tokens * shape.num_hidden_layers * layer
    return setup.tokens * (shape.num_hidden_layers * shape.hidden_size * width + layer)


def _head(setup: TrainingSetup) -> int:
    """On a GPU TRL's fused loss: gradients of output weights and hidden states in float32 and once more in bfloat16, and a tile.

    Frozen output weights have no gradient. With ZeRO-3 over several ranks they are gathered too. On a CPU: logits, their float32
    copy, and both gradients.
    """
    shape, width = setup.shape, WEIGHT_BYTES[setup.precision]
    weights = shape.vocab_size * shape.hidden_size
    if not setup.on_gpu:
        return setup.tokens * shape.vocab_size * 2 * (width + 4)
    gathered = width * weights if setup.zero_stage == 3 and setup.ranks > 1 else 0
    changed = weights if setup.lora_rank is None else 0
    return (4 + width) * (changed + setup.tokens * shape.hidden_size) + HEAD_TILE + gathered


def _buckets(setup: TrainingSetup) -> int:
    """ZeRO-3: a reduce bucket, gathered weights, and over several ranks the output of reduce-scatter. Else two buckets: on GPUs
    because communication overlaps with computation, on CPUs the gradients and the flat copy of them that is exchanged
    (`allreduce_bucket`), unless nothing is divided. None is larger than the model.

    Without a master copy: a flat copy of gradients that ends with the parameter that makes it larger than a bucket, over several
    ranks."""
    parameters, width = setup.shape.parameters, WEIGHT_BYTES[setup.precision]
    if setup.in_place:
        largest = setup.shape.vocab_size * setup.shape.hidden_size
        return setup.gradient_bytes * min(BUCKET + largest, parameters) if setup.ranks > 1 else 0
    bucket = width * min(BUCKET, parameters)
    if setup.zero_stage == 3:
        return bucket * (2 if setup.ranks > 1 else 1) + width * min(LIVE_PARAMETERS, parameters)
    return bucket * (2 if setup.on_gpu or setup.zero_stage > 0 else 1)


def _step(setup: TrainingSetup, updated: int, *, fused: bool) -> int:
    """Float32 gradients of what is updated at once, with ZeRO-3 a sub-group; without a fused optimizer two more such copies.

    Below ZeRO-3 gradients that are summed in float32 are used where they are. Adapters of a model on a CPU are merged by one rank,
    which loads the model once more. Without a master copy, weights are updated piece by piece.
    """
    if setup.in_place:
        return PIECE_BYTES * min(PIECE, updated)
    group = min(LIVE_PARAMETERS, updated) if setup.zero_stage == 3 else updated
    copies = (0 if setup.sums_in_float32 and setup.zero_stage < 3 else 1) + (0 if fused else 2)
    merged = WEIGHT_BYTES[setup.precision] * setup.shape.parameters if setup.lora_rank is not None and not setup.on_gpu else 0
    return max(4 * group * copies, merged)


def host_memory(setup: TrainingSetup) -> int:
    """Host memory of the whole pod, in bytes.

    Without a GPU all ranks. With GPUs their processes, and the weights while they are loaded: every rank reads them all
    (transformers 5.19, `_load_state_dict_into_zero3_model` for ZeRO-3), and rank 0 gathers them again for each checkpoint.
    """
    if not setup.on_gpu:
        return setup.ranks * estimate_memory(setup).peak
    return setup.ranks * (CUDA_PROCESS + WEIGHT_BYTES[setup.precision] * setup.shape.parameters)
