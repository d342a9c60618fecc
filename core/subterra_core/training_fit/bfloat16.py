"""Which processors multiply in bfloat16; others convert every weight first, and are slower than in float32."""

from collections.abc import Iterable

BFLOAT16_FEATURES = frozenset({"amx_bf16", "avx512_bf16"})
"""Features of a processor, in the words of Linux and of PyTorch, of which one suffices."""


def multiplies_in_bfloat16(features: Iterable[str]) -> bool:
    """Whether a processor with these `features` does: the flags in /proc/cpuinfo, or PyTorch's capabilities."""
    return not BFLOAT16_FEATURES.isdisjoint(features)
