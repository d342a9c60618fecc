"""The training part of `subterra plan`: memory, room on the store, and the cards that fit, as text and as JSON data."""

from collections.abc import Iterator
from typing import Any

from subterra_core.training_fit.training_plan import TrainingPlan, gigabytes


def lines(plan: TrainingPlan | str) -> Iterator[str]:
    """The text below the cost: the training, its memory, cards, room on the store, warnings; or the reason why there is no plan."""
    if isinstance(plan, str):
        yield f"training: memory and disk are not estimated: {plan}"
        return
    setup = plan.setup
    ranks = "1 rank" if setup.ranks == 1 else f"{setup.ranks} ranks"
    ranks += f" on {plan.nodes} nodes" if plan.nodes > 1 else ""
    yield (
        f"training: {plan.model}, {_billions(setup.shape.parameters)} parameters, {setup.optimizer}, {setup.precision}, "
        f"ZeRO-{setup.zero_stage}, {ranks}, at most {setup.micro_batch} × {setup.max_length:,} tokens at a time"
    )
    if setup.lora_rank is not None:
        yield f"trains adapters of rank {setup.lora_rank} with {_billions(setup.trained_parameters)} parameters, and no weights"
    yield from _gpu_lines(plan) if setup.on_gpu else _cpu_lines(plan)
    disk = plan.disk
    kept = "1 checkpoint" if disk.checkpoints == 1 else f"{disk.checkpoints} checkpoints"
    sizes = f"{kept} of {gigabytes(disk.checkpoint)}, model of {gigabytes(disk.model)}"
    yield f"store: {gigabytes(disk.total)} ({sizes}), besides the dataset"
    yield from (f"warning: {each}" for each in plan.warnings)


def _gpu_lines(plan: TrainingPlan) -> Iterator[str]:
    where = " in each pod" if plan.nodes > 1 else ""
    yield f"up to {gigabytes(plan.memory.peak)} per GPU, {gigabytes(plan.host_bytes)} of host memory{where}"
    yield f"per GPU: {_parts(plan)}"
    fitting = [card.name for card, fits in plan.cards.items() if fits]
    others = [card.name for card, fits in plan.cards.items() if not fits]
    yield "; ".join(f"{verb} {', '.join(names)}" for verb, names in (("fits", fitting), ("does not fit", others)) if names)


def _cpu_lines(plan: TrainingPlan) -> Iterator[str]:
    where = "in each pod" if plan.nodes > 1 else "in all"
    yield f"up to {gigabytes(plan.memory.peak)} per rank, {gigabytes(plan.host_bytes)} of memory {where}, without a GPU"
    yield f"per rank: {_parts(plan)}"
    if plan.setup.precision == "bfloat16":
        yield f"a processor without AMX or AVX512-BF16 trains in float32 and needs up to {gigabytes(plan.float32_peak)} per rank"


def _parts(plan: TrainingPlan) -> str:
    memory = plan.memory
    named = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "buffers": memory.buckets,
        "process": memory.base,
        "activations": memory.activations,
        "output layer": memory.head,
    }
    parts = ", ".join(f"{name} {gigabytes(count)}" for name, count in named.items())
    later = memory.step > memory.activations + memory.head
    return parts + (f"; in a step {gigabytes(memory.step)} instead of the last two" if later else "")


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"


def data(plan: TrainingPlan | str) -> dict[str, Any]:
    """The plan as JSON data, sizes in bytes; or the reason why there is none."""
    if isinstance(plan, str):
        return {"unknown": plan}
    setup, memory = plan.setup, plan.memory
    parts = ("weights", "gradients", "optimizer", "activations", "head", "buckets", "step", "base", "peak")
    return {
        "model": plan.model,
        "parameters": setup.shape.parameters,
        "optimizer": setup.optimizer,
        "precision": setup.precision,
        "zeroStage": setup.zero_stage,
        "ranks": setup.ranks,
        "gpus": plan.gpus,
        "microBatch": setup.micro_batch,
        "maxLength": setup.max_length,
        "bytesPerRank": {name: getattr(memory, name) for name in parts},
        "hostBytes": plan.host_bytes,
        "storeBytes": {
            "checkpoint": plan.disk.checkpoint,
            "checkpoints": plan.disk.checkpoints,
            "model": plan.disk.model,
            "total": plan.disk.total,
        },
        "card": plan.card.name if plan.card else None,
        "cards": [{"name": card.name, "bytes": card.memory_bytes, "fits": fits} for card, fits in plan.cards.items()],
        "changes": [{"change": each.text, "card": each.card.name, "bytesPerRank": each.peak} for each in plan.changes],
        "warnings": list(plan.warnings),
    }
