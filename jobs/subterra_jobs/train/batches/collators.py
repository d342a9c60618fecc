"""Conversations of a micro-batch as the model's input."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch

from subterra_jobs.train.tokenized_dataset import IGNORED, Example

Collate = Callable[[Sequence[Example]], dict[str, Any]]


class PaddingCollator:
    """Pads on the right and passes positions instead of an attention mask.

    A causal model never looks right, so padding there needs no mask, and without one attention takes its fast path.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch as wide as its longest conversation."""
        width = max(len(example["input_ids"]) for example in examples)

        def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([row + [filler] * (width - len(row)) for row in rows])

        return {
            "input_ids": padded([example["input_ids"] for example in examples], self.pad_token_id),
            "labels": padded([example["labels"] for example in examples], IGNORED),
            "position_ids": torch.arange(width).repeat(len(examples), 1),
        }


def in_one_row(examples: Sequence[Example]) -> dict[str, Any]:
    """The conversations one after the other, with positions that start over and the bounds that `segmented_attention` needs.

    A first token has no label: what comes before it in the row is another conversation.
    """
    lengths = [len(example["input_ids"]) for example in examples]
    labels = [label for example in examples for label in (IGNORED, *example["labels"][1:])]
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[token for example in examples for token in example["input_ids"]]]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
