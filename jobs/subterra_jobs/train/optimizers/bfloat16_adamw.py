"""AdamW on weights in bfloat16 without a float32 copy of them, for models that would not fit a GPU with one.

A step at 2e-5 is less than half of the distance between most weights and the next number in bfloat16, so that rounding to the
nearest one would leave them where they are. They are rounded up or down at random, the nearer number being likelier: on average
every step counts. The 8-bit states (Dettmers et al. 2021, arXiv 2110.02861) and the rounding are torchao's. Its own step must be
compiled to be fast, and this one need not.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torchao.optim.quant_utils import _fp32_to_bf16_sr, dequant_with_qmap, scale_tensor
from torchao.optim.subclass_8bit import OptimState8bit

BLOCK = 256
"""Elements of a state that share a scale."""
SMALLEST = 4096
"""Elements from which on a state is kept in 8 bits."""
PIECE = 2**24
"""Elements that are updated at once: as many temporary tensors of this size are enough for weights of any size."""
Moments = Tensor | OptimState8bit


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

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates all weights that have a gradient."""
        updated = [(group, parameter) for group, parameter in self._parameters() if parameter.grad is not None]
        devices = {parameter.get_device() for _, parameter in updated if parameter.is_cuda}
        with torch.random.fork_rng(devices):
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
        state = self.state[parameter]
        state |= {"step": 0, "mean": self._zeros(parameter, signed=True), "square": self._zeros(parameter, signed=False)}
        return cast(dict[str, Any], state)

    def _zeros(self, parameter: Tensor, *, signed: bool) -> Moments:
        if self._eight_bits and parameter.numel() >= SMALLEST and parameter.numel() % BLOCK == 0:
            return cast(Moments, OptimState8bit.zeros(parameter.shape, signed, BLOCK, parameter.device))
        return torch.zeros_like(parameter, dtype=torch.float32)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the states of all parameters."""
    states = (each for state in optimizer.state.values() for each in state.values() if isinstance(each, Tensor))
    return sum(part.numel() * part.element_size() for state in states for part in _parts(state))


def _parts(state: Moments) -> Iterable[Tensor]:
    return (state.codes, state.scale, state.qmap) if isinstance(state, OptimState8bit) else (state,)


def _update(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """A step of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), in float32."""
    rate, (first, second) = float(group["lr"]), group["betas"]
    scale, root = rate / (1 - first ** state["step"]), (1 - second ** state["step"]) ** 0.5
    weights, gradients = parameter.view(-1), cast(Tensor, parameter.grad).reshape(-1)
    for start in range(0, len(weights), PIECE):
        piece = slice(start, min(start + PIECE, len(weights)))
        gradient = gradients[piece].float()
        mean = _read(state["mean"], piece).lerp_(gradient, 1 - first)
        square = _read(state["square"], piece).mul_(second).addcmul_(gradient, gradient, value=1 - second)
        divisor = square.sqrt().div_(root).add_(group["eps"])
        updated = weights[piece].float().mul_(1 - rate * group["weight_decay"]).addcdiv_(mean, divisor, value=-scale)
        weights[piece] = _fp32_to_bf16_sr(updated) if weights.dtype == torch.bfloat16 else updated
        _write(state["mean"], piece, mean)
        _write(state["square"], piece, square)


def _read(state: Moments, piece: slice) -> Tensor:
    """Elements of a state in float32; those of a state in float32 themselves."""
    if not isinstance(state, OptimState8bit):
        return state.view(-1)[piece]
    return cast(Tensor, dequant_with_qmap(state.codes.view(-1)[piece], state.qmap, state.scale[_blocks(piece)]))


def _write(state: Moments, piece: slice, values: Tensor) -> None:
    """Keeps what `_read` returned."""
    if isinstance(state, OptimState8bit):
        scaled, state.scale[_blocks(piece)] = scale_tensor(values, BLOCK)
        halfway = state.qmap[:-1].lerp(state.qmap[1:], 0.5)
        state.codes.view(-1)[piece] = torch.bucketize(scaled, halfway, out_int32=True, right=True)


def _blocks(piece: slice) -> slice:
    return slice(piece.start // BLOCK, piece.stop // BLOCK)
