"""What padding costs: forward and backward passes over the same conversations, padded and in one row."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_pt_utils import LengthGroupedSampler

from subterra_jobs.train.batches.collators import Collate, PaddingCollator, in_one_row
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.batches.step_plan import StepPlan, waiting_share
from subterra_jobs.train.tokenized_dataset import IGNORED

Batches = Sequence[Sequence[int]]


def planned(lengths: Sequence[int], batch: int, limit: int) -> Batches:
    """Micro-batches of one rank's first epoch."""
    return [micro for (share,) in StepPlan(lengths, batch, 1, limit, seed=42).epoch(0) for micro in share]


def by_longest(lengths: Sequence[int], batch: int, limit: int) -> Batches:
    """The same as transformers' sampler groups them, in micro-batches that would hold the longest conversation of all."""
    sampler = LengthGroupedSampler(batch, lengths=list(lengths), generator=torch.Generator().manual_seed(42))
    order, micro = list(sampler), max(1, min(batch, limit // max(lengths)))
    return [order[start : start + micro] for start in range(0, len(order), micro)]


def useful_rate(model: PreTrainedModel, examples: Dataset, batches: Batches, collate: Collate) -> float:
    """Tokens of conversations, without padding, per CPU second. The first batch warms up."""
    tokens, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == 1:
            tokens, started = 0, time.process_time()
        conversations = [examples[index] for index in batch]
        tokens += sum(conversation["length"] for conversation in conversations)
        _loss(model, collate(conversations)).backward()
    return tokens / (time.process_time() - started)


def _loss(model: PreTrainedModel, batch: dict[str, Any]) -> torch.Tensor:
    following = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    logits = model.lm_head(hidden[following != IGNORED])
    return torch.nn.functional.cross_entropy(logits.float(), following[following != IGNORED])


def rates(build: Callable[[], PreTrainedModel], examples: Dataset, batch: int, limit: int, count: int) -> tuple[float, float]:
    """Useful tokens per CPU second: padded in micro-batches by the longest conversation, and without padding by tokens."""
    lengths = list(examples["length"])
    padded, free = (_spread(divide(lengths, batch, limit), count) for divide in (by_longest, planned))
    model = build()
    before = useful_rate(model, examples, padded, PaddingCollator(0))
    assert use_segments(model)
    return before, useful_rate(model, examples, free, in_one_row)


def _spread(batches: Batches, count: int) -> Batches:
    """About ``count`` of the batches, of all lengths."""
    return batches[:: max(1, len(batches) // count)]


def waiting(lengths: Sequence[int], batch: int, ranks: int, limit: int) -> tuple[float, float]:
    """Share of the ranks' time that they wait for the slowest: with transformers' sampler, and with a step plan."""
    groups = by_longest(lengths, batch // ranks, batch // ranks * max(lengths))
    steps = [tuple((tuple(group),) for group in groups[start : start + ranks]) for start in range(0, len(groups), ranks)]
    complete = [step for step in steps if len(step) == ranks]
    return waiting_share(complete, lengths), waiting_share(StepPlan(lengths, batch, ranks, limit, 42).epoch(0), lengths)
