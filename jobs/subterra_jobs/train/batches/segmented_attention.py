"""Attention over conversations that stand one after the other in a single row: each sees itself alone, and nothing is padded.

On CPUs there is a call of PyTorch's attention per conversation: a mask that separates them would cost more than the padding that
it avoids. On GPUs PyTorch's kernel for sequences of different lengths does all of them at once.
"""

from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "subterra_segments"


def segmented_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention as transformers calls it: heads before positions in, positions before heads out.

    ``cu_seq_lens_q`` has the first position of each conversation, and the number of all positions. Without it a row is one
    conversation.
    """
    if cu_seq_lens_q is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output
    if query.is_cuda:
        return _on_gpu(query, key, value, cu_seq_lens_q, max_length_q or query.shape[2], options.get("scaling")), None
    scaling, dropout = options.get("scaling"), options.get("dropout", 0.0)
    bounds = cu_seq_lens_q.tolist()
    parts = [
        sdpa_attention_forward(module, *(x[:, :, start:end] for x in (query, key, value)), None, dropout=dropout, scaling=scaling)[
            0
        ]
        for start, end in pairwise(bounds)
    ]
    return torch.cat(parts, dim=1), None


def _on_gpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: torch.Tensor, longest: int, scaling: float | None
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    rows = [x[0].transpose(0, 1).contiguous() for x in (query, key, value)]
    grouped = query.shape[1] != key.shape[1]
    output = varlen_attn(
        rows[0], rows[1], rows[2], bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=grouped
    )
    assert isinstance(output, torch.Tensor)  # a pair only if auxiliary output is asked for
    return output.unsqueeze(0)


def use_segments(model: PreTrainedModel) -> bool:
    """Makes a model accept conversations in one row; `False`, and no change, if it cannot.

    It can if PyTorch's attention can take the place of its own, and every layer is attention that sees the whole conversation.
    """
    config = model.config.get_text_config()
    windows = {"full_attention"} != set(getattr(config, "layer_types", None) or ["full_attention"])
    own = getattr(config, "attn_logit_softcapping", None) or not (model._supports_attention_backend and model._supports_sdpa)
    if windows or getattr(config, "sliding_window", None) or own:
        return False
    AttentionInterface.register(NAME, segmented_attention)
    model.set_attn_implementation(NAME)
    return True
