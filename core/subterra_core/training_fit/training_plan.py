"""What the training of a compile run needs, from its manifests, and what stands in its way."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.pod_settings import amount
from subterra_api.v1alpha1.stage_pods import StagePod
from subterra_core.node_pools import GPU_RESOURCE, default_ranks, gpu_count, node_count
from subterra_core.training_fit.disk_need import DiskNeed, disk_need, optimizer_steps
from subterra_core.training_fit.fit_verdict import USABLE_PERCENT, Change, changes_that_fit, fits
from subterra_core.training_fit.gpu_cards import GpuCard, gpu_cards, selected_card
from subterra_core.training_fit.memory_estimate import MemoryEstimate, TrainingSetup, estimate_memory, host_memory
from subterra_core.training_fit.model_shape import ModelShape

DEFAULT_STORE_SIZE = "20Gi"
"""`store.size` of the chart."""
DEFAULT_TRAIN_MEMORY = "14Gi"
"""`defaults.resources.train.limits.memory` of the chart, for a stage without any resources."""


@dataclass(frozen=True)
class TrainingPlan:
    """The memory of each rank and of the pod, the room on the store, and the cards that have enough."""

    model: str
    setup: TrainingSetup
    gpus: int
    """GPUs that each pod asks for."""
    card: GpuCard | None
    """The card that the pod's nodeSelector names."""
    memory_limit: str | None
    """Of the pod, as a quantity."""
    disk: DiskNeed
    store_size: str
    """Of the store's claim, as a quantity."""
    nodes: int = 1
    """Pods that share the ranks evenly."""

    @cached_property
    def memory(self) -> MemoryEstimate:
        return estimate_memory(self.setup)

    @property
    def host_bytes(self) -> int:
        return -(-host_memory(self.setup) // self.nodes)

    @property
    def float32_peak(self) -> int:
        """Peak of a rank in float32, which processors train in that do not multiply in bfloat16."""
        return estimate_memory(replace(self.setup, precision="float32")).peak

    @property
    def cards(self) -> dict[GpuCard, bool]:
        """All known cards, and whether each rank fits one."""
        return {card: fits(self.setup, card) for card in gpu_cards()}

    @property
    def changes(self) -> tuple[Change, ...]:
        """The smallest changes with which the training would fit; empty if it does, or if nothing is enough.

        They are those of the card that is asked for, else of the largest one.
        """
        card = self.card or gpu_cards()[-1]
        if not self.setup.on_gpu or fits(self.setup, card):
            return ()
        found = changes_that_fit(self.setup, card, gpu_cards())
        # With several nodes more ranks are more GPUs in each pod, or more pods: that is not for this to choose.
        return tuple(change for change in found if self.nodes == 1 or change.setup.ranks == self.setup.ranks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will go wrong or be wasted, each with numbers and a fix."""
        misfit = (self.misfit,) if self.misfit else ()
        return (*misfit, *self._rank_warnings(), *self._memory_warnings(), *self._disk_warnings())

    @property
    def misfit(self) -> str | None:
        """That the training does not fit its card, or any if none is named: with numbers and the changes that would; or `None`."""
        card = self.card or gpu_cards()[-1]
        if not self.setup.on_gpu or fits(self.setup, card):
            return None
        named = card.name if self.card else f"any known GPU; the largest is {card.name}"
        fixes = " or ".join(f"{change.text} ({gigabytes(change.peak)} per GPU)" for change in self.changes)
        fix = f"the smallest change that fits: {fixes}" if fixes else "no larger card, and no number of ranks up to 8, is enough"
        usable = f"{USABLE_PERCENT} % of its {gigabytes(card.memory_bytes)} may be used"
        return f"does not fit {named}: {gigabytes(self.memory.peak)} needed, {usable}; {fix}"

    def _rank_warnings(self) -> Iterator[str]:
        ranks = self.setup.ranks // self.nodes
        if 0 < self.gpus < ranks:
            yield f"execution.train.ranks is {ranks}, but the pod asks for {self.gpus} {GPU_RESOURCE}; make them equal"
        elif self.gpus > ranks:
            yield f"the pod asks for {self.gpus} {GPU_RESOURCE}, but trains on {ranks}; set execution.train.ranks: {self.gpus}"

    def _memory_warnings(self) -> Iterator[str]:
        if self.memory_limit is not None and self.host_bytes > amount(self.memory_limit):
            needed = f"the train pod may need {gigabytes(self.host_bytes)}"
            if self.setup.on_gpu:
                yield f"{needed} of host memory, and its limit is {self.memory_limit}; raise limits.memory"
            else:
                longest = f"conversations of {self.setup.max_length:,} tokens, training.maxLength"
                yield f"{needed} with {longest}, and its limit is {self.memory_limit}; raise limits.memory or lower maxLength"

    def _disk_warnings(self) -> Iterator[str]:
        if self.disk.total > amount(self.store_size):
            yield (
                f"the training needs {gigabytes(self.disk.total)} on the store, whose claim has {self.store_size}; "
                "raise store.size of the chart, or say how large it is with --store-size"
            )


def plan_training(
    inputs: CompileInputs, pod: StagePod, shape: ModelShape, store_size: str = DEFAULT_STORE_SIZE, card: GpuCard | None = None
) -> TrainingPlan:
    """The plan for a run's settings, with the defaults for its kind of base model.

    ``shape`` is that of the base model, ``card`` that of the pod's pool; without one it is what the pod's nodeSelector names. As in
    the trainer, a pod with GPUs trains on them, with one rank for each unless it says otherwise.
    """
    kind = inputs.base_model.kind
    training, generation = training_of(inputs.training, kind), generation_of(inputs.generation, kind)
    gpus = gpu_count(pod.resources)
    setup = TrainingSetup(
        shape=shape,
        optimizer=training.optimizer,
        zero_stage=training.zero_stage,
        ranks=default_ranks(pod) * node_count(pod),
        batch_size=training.batch_size,
        max_length=training.max_length,
        on_gpu=gpus > 0,
        precision="float32" if kind == "scratch" else "bfloat16",
        pretrained=kind != "scratch",
        lora_rank=training.lora.rank if training.lora else None,
    )
    trained = generation.conversations * len(generation.seeds) * (100 - generation.held_out_percent) // 100
    steps = optimizer_steps(trained, training.batch_size, training.epochs, training.max_steps)
    disk = disk_need(setup, -(-steps // training.checkpoint_steps))
    card, model = card or selected_card(pod.node_selector), inputs.base_model.uri.rpartition("/")[2]
    return TrainingPlan(model, setup, gpus, card, _memory_limit(pod), disk, store_size, node_count(pod))


def _memory_limit(pod: StagePod) -> str | None:
    """The pod's own limit, or the chart's where the stage sets no resources at all."""
    if not pod.resources.limits and not pod.resources.requests:
        return DEFAULT_TRAIN_MEMORY
    limit = pod.resources.limits.get("memory")
    return None if limit is None else str(limit)


def gigabytes(count: int) -> str:
    """Bytes as billions of bytes, such as ``43 GB`` or ``6.2 GB``."""
    value = count / 1e9
    return f"{value:.0f} GB" if value >= 9.95 else f"{value:.1f} GB" if value >= 0.095 else f"{value * 1000:.0f} MB"
