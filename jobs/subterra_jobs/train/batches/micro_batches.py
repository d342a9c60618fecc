"""The seam to transformers' trainer: one item of its data loader is a rank's whole step, of any number of micro-batches."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as MapDataset

from subterra_jobs.train.batches.collators import Collate
from subterra_jobs.train.batches.step_plan import RankStep, StepPlan

MICRO_BATCHES = "micro_batches"


class RankSteps(Sampler[list[RankStep]]):
    """A rank's steps, one per batch. The order of an epoch depends on its number alone, so a resumed one goes on where it was."""

    def __init__(self, plan: StepPlan, rank: int) -> None:
        self._plan, self._rank, self._epoch = plan, rank, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[RankStep]]:
        """Steps of the current epoch."""
        return iter([[shares[self._rank]] for shares in self._plan.epoch(self._epoch)])

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self._plan)


class StepDataset(MapDataset[dict[str, Any]]):
    """Conversations, to be asked for a `RankStep`."""

    def __init__(self, conversations: Dataset, collate: Collate) -> None:
        self._conversations, self._collate = conversations, collate

    def __len__(self) -> int:
        """Number of conversations."""
        return len(self._conversations)

    def __getitem__(self, step: RankStep) -> dict[str, Any]:
        """The micro-batches of a step, and all their tokens and labels in one row, which the trainer counts."""
        micros = [self._collate([self._conversations[index] for index in micro]) for micro in step]
        counted = {name: torch.cat([micro[name].flatten() for micro in micros]).unsqueeze(0) for name in ("input_ids", "labels")}
        return counted | {MICRO_BATCHES: micros}


class StepLoader(DataLoader[dict[str, Any]]):
    """Loads the steps of one rank. Not prepared by accelerate, which would divide them among the ranks once more."""

    def __init__(self, dataset: StepDataset, steps: RankSteps) -> None:
        super().__init__(dataset, batch_sampler=steps, collate_fn=_only)
        self._steps = steps

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._steps.set_epoch(epoch)


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    (item,) = items
    return item


class MicroBatches:
    """Mixin for transformers' trainer on DeepSpeed: trains by a `StepPlan`, with a micro-batch after the other in each step.

    `gradient_accumulation_steps` must be 1, because the number of micro-batches varies.
    """

    def __init__(self, *, plan: StepPlan, collate: Collate, **arguments: Any) -> None:
        super().__init__(data_collator=collate, **arguments)  # type: ignore[call-arg]
        self._plan, self._collate = plan, collate

    def get_train_dataloader(self) -> StepLoader:
        """Steps of this rank."""
        rank: int = self.args.process_index  # type: ignore[attr-defined]
        return StepLoader(StepDataset(self.train_dataset, self._collate), RankSteps(self._plan, rank))  # type: ignore[attr-defined]

    def training_step(
        self, model: torch.nn.Module, inputs: Mapping[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The loss of a step; gradients are applied after its last micro-batch."""
        micros, state = inputs[MICRO_BATCHES], self.accelerator.gradient_state  # type: ignore[attr-defined]
        losses = []
        for number, micro in enumerate(micros, start=1):
            state._set_sync_gradients(number == len(micros))
            losses.append(super().training_step(model, micro, num_items_in_batch))  # type: ignore[misc]
        return torch.stack(losses).sum()
