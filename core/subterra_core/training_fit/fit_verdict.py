"""Whether a training fits a card, and the smallest changes with which it would."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from subterra_api.v1alpha1.training_settings import WITHOUT_MASTER_COPY
from subterra_core.training_fit.gpu_cards import GpuCard
from subterra_core.training_fit.memory_estimate import OPTIMIZER_BYTES, TrainingSetup, estimate_memory

USABLE_PERCENT = 95
"""Share of a card's memory that an estimate may fill: its own error is a few gigabytes, and a card has other users."""
MOST_RANKS = 8
"""GPUs of a node: a training runs in one pod."""


@dataclass(frozen=True)
class Change:
    """A change of a training, and the card on which it fits then."""

    setup: TrainingSetup
    card: GpuCard
    text: str

    @property
    def peak(self) -> int:
        return estimate_memory(self.setup).peak


def fits(setup: TrainingSetup, card: GpuCard) -> bool:
    """Whether the estimated peak of each rank fills no more than `USABLE_PERCENT` of its card."""
    return estimate_memory(setup).peak * 100 <= card.memory_bytes * USABLE_PERCENT


def changes_that_fit(setup: TrainingSetup, card: GpuCard, cards: Sequence[GpuCard]) -> tuple[Change, ...]:
    """The smallest changes of each kind that fit: a higher ZeRO stage, else an optimizer without a float32 copy of the weights,
    more ranks on the same card, and a larger card.

    Empty if none of them does.
    """
    higher = next((change for change in _higher_stages(setup, card) if fits(change.setup, card)), None)
    if higher is not None:
        return (higher,)
    lighter = next((change for change in _lighter_optimizers(setup, card) if fits(change.setup, card)), None)
    more = next((change for change in _more_ranks(setup, card) if fits(change.setup, card)), None)
    other = next((each for each in cards if each.memory_bytes > card.memory_bytes and fits(setup, each)), None)
    larger = Change(setup, other, f"{other.name} instead of {card.name}") if other else None
    return tuple(change for change in (lighter, more, larger) if change is not None)


def _higher_stages(setup: TrainingSetup, card: GpuCard) -> Iterator[Change]:
    """Over one rank nothing is divided, so no stage helps there. Without a float32 copy of the weights there is none to divide."""
    if setup.ranks > 1 and not setup.in_place:
        for stage in range(setup.zero_stage + 1, 4):
            yield Change(replace(setup, zero_stage=stage), card, f"training.zeroStage: {stage}")


def _lighter_optimizers(setup: TrainingSetup, card: GpuCard) -> Iterator[Change]:
    """The more exact one first. Adapters have too few states for it to help, and a model from scratch is trained in float32."""
    if setup.lora_rank is None and setup.pretrained and not setup.in_place:
        for optimizer in sorted(WITHOUT_MASTER_COPY, key=lambda name: -OPTIMIZER_BYTES[name]):
            text = f"training.optimizer: {optimizer} with training.zeroStage: 0"
            yield Change(replace(setup, optimizer=optimizer, zero_stage=0), card, text)


def _more_ranks(setup: TrainingSetup, card: GpuCard) -> Iterator[Change]:
    """Each rank of an optimizer without a float32 copy of the weights has everything, so more of them do not help there."""
    ranks = setup.ranks * 2
    while ranks <= min(MOST_RANKS, setup.batch_size) and not setup.in_place:
        for stage in range(setup.zero_stage, 4):
            text = f"{ranks} GPUs with execution.train.ranks: {ranks}"
            text += f" and training.zeroStage: {stage}" if stage != setup.zero_stage else ""
            yield Change(replace(setup, ranks=ranks, zero_stage=stage), card, text)
        ranks *= 2
