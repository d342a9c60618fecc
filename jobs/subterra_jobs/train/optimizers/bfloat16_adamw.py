"""AdamW on weights in bfloat16 without a float32 copy of them, for models that would not fit a GPU with one.

A step at 2e-5 is less than half of the distance between most weights and the next number in bfloat16, so that rounding to the
nearest one would leave them where they are. They are rounded up or down at random, the nearer number being likelier: on average
every step counts. The 8-bit numbers (Dettmers et al. 2021, arXiv 2110.02861) and the rounding are torchao's. Its own step must be
compiled to be fast, and its own states are tensors of a kind that DeepSpeed saves and cannot load.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torchao.optim.quant_utils import _fp32_to_bf16_sr, create_dynamic_map, dequant_with_qmap, scale_tensor

BLOCK = 256
"""Elements of a state that share a scale."""
SMALLEST = 4096
"""Elements from which on a state is kept in 8 bits."""
PIECE = 2**24
"""Elements that are updated at once: as many temporary tensors of this size are enough for weights of any size."""
MEAN, SQUARE, SCALES = "mean", "square", "_scales"
"""States of a parameter: Adam's moments, in float32, or in 8 bits with their scales under the same name with `SCALES`."""


class Bfloat16AdamW(torch.optim.Optimizer):
    """AdamW with random rounding of weights in bfloat16; weights in float32 are updated as they are.

    The gradients of its parameters are summed in float32 from now on. What a step rounds up depends on ``seed`` and on the number
    of the step alone, so ranks that have the same gradients keep the same weights, and a resumed training goes on as it would have.
    """

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float, *, eight_bits: bool, seed: int
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": weight_decay})
        self._eight_bits, self._seed = eight_bits, seed
        for _, parameter in self._parameters():
            parameter.grad_dtype = torch.float32

    def step(self, closure: Any = None) -> Any:
        """Updates all weights that have a gradient."""
        updated = [(group, parameter) for group, parameter in self._parameters() if parameter.grad is not None]
        devices = {parameter.get_device() for _, parameter in updated if parameter.is_cuda}
        with torch.no_grad(), torch.random.fork_rng(devices):
            for number, (group, parameter) in enumerate(updated):
                state = self.state[parameter] or self._begin(parameter)
                state["step"] += 1
                if not number:
                    torch.manual_seed(self._seed + int(state["step"]))
                _update(parameter, state, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the states as they were saved: torch converts them to the precision of the weights."""
        super().load_state_dict(state_dict)
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        for number, (_, parameter) in zip(saved, self._parameters(), strict=True):
            if number in state_dict["state"]:
                states = state_dict["state"][number].items()
                self.state[parameter] = {name: each if name == "step" else each.to(parameter.device) for name, each in states}

    def _parameters(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        return ((group, parameter) for group in self.param_groups for parameter in group["params"])

    def _begin(self, parameter: Tensor) -> dict[str, Any]:
        state, eight_bits = self.state[parameter], self._eight_bits and parameter.numel() % BLOCK == 0
        state["step"] = 0
        for name in (MEAN, SQUARE):
            if eight_bits and parameter.numel() >= SMALLEST:
                state[name] = torch.zeros_like(parameter, dtype=torch.uint8)
                state[name + SCALES] = torch.zeros(parameter.numel() // BLOCK, device=parameter.device)
            else:
                state[name] = torch.zeros_like(parameter, dtype=torch.float32)
        return cast(dict[str, Any], state)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the states of all parameters."""
    states = (each for state in optimizer.state.values() for each in state.values() if isinstance(each, Tensor))
    return sum(each.numel() * each.element_size() for each in states)


def _update(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """A step of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), in float32."""
    rate, (first, second) = float(group["lr"]), group["betas"]
    scale, root = rate / (1 - first ** state["step"]), (1 - second ** state["step"]) ** 0.5
    weights, gradients = parameter.view(-1), cast(Tensor, parameter.grad).reshape(-1)
    for start in range(0, len(weights), PIECE):
        piece = slice(start, min(start + PIECE, len(weights)))
        gradient = gradients[piece].float()
        mean = _read(state, MEAN, piece).lerp_(gradient, 1 - first)
        square = _read(state, SQUARE, piece).mul_(second).addcmul_(gradient, gradient, value=1 - second)
        divisor = square.sqrt().div_(root).add_(group["eps"])
        updated = weights[piece].float().mul_(1 - rate * group["weight_decay"]).addcdiv_(mean, divisor, value=-scale)
        weights[piece] = _fp32_to_bf16_sr(updated) if weights.dtype == torch.bfloat16 else updated
        _write(state, MEAN, piece, mean)
        _write(state, SQUARE, piece, square)


def _read(state: dict[str, Any], name: str, piece: slice) -> Tensor:
    """Elements of a moment in float32; those of one in float32 themselves."""
    values = cast(Tensor, state[name]).view(-1)[piece]
    if name + SCALES not in state:
        return values
    return cast(Tensor, dequant_with_qmap(values, _numbers(name, values.device), state[name + SCALES][_blocks(piece)]))


def _write(state: dict[str, Any], name: str, piece: slice, values: Tensor) -> None:
    """Keeps what `_read` returned."""
    if name + SCALES in state:
        scaled, state[name + SCALES][_blocks(piece)] = scale_tensor(values, BLOCK)
        numbers = _numbers(name, values.device)
        halfway = numbers[:-1].lerp(numbers[1:], 0.5)
        state[name].view(-1)[piece] = torch.bucketize(scaled, halfway, out_int32=True, right=True)


def _blocks(piece: slice) -> slice:
    return slice(piece.start // BLOCK, piece.stop // BLOCK)


@cache
def _numbers(name: str, device: torch.device) -> Tensor:
    """The 256 numbers of a moment in 8 bits, in ascending order; squares need none below zero."""
    return torch.tensor(create_dynamic_map(signed=name == MEAN), device=device)
