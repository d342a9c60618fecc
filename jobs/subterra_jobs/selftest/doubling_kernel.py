"""The smallest Triton kernel. In a module of its own, because Triton reads its source and exists for GPUs only."""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

BLOCK = 256


@triton.jit  # type: ignore[untyped-decorator]
def _double(source, target, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    offsets = tl.program_id(0) * block + tl.arange(0, block)
    inside = offsets < count
    tl.store(target + offsets, tl.load(source + offsets, mask=inside) * 2, mask=inside)


def doubled(values: torch.Tensor) -> torch.Tensor:
    """Twice the values, by a kernel that is compiled at the first call."""
    result = torch.empty_like(values)
    _double[(triton.cdiv(values.numel(), BLOCK),)](values, result, values.numel(), block=BLOCK)
    return result
