"""The estimated memory of a training agrees with an independent audit and with what was measured."""

from dataclasses import replace
from typing import Any

import pytest

from subterra_core.training_fit import memory_estimate
from subterra_core.training_fit.disk_need import disk_need, optimizer_steps
from subterra_core.training_fit.memory_estimate import TrainingSetup, estimate_memory, host_memory
from subterra_core.training_fit.model_shape import shape_of
from subterra_jobs.train.batches import step_plan

B3, B8, SMALL = (
    shape_of(uri) for uri in ("hf://Qwen/Qwen2.5-3B-Instruct", "hf://Qwen/Qwen3-8B", "bundled://SmolLM2-135M-Instruct")
)
TRAVEL = TrainingSetup(B3, "adamw", 3, 1, 16, 4096, on_gpu=True)
ZOOM = TrainingSetup(B8, "adamw", 3, 8, 32, 4096, on_gpu=True)
LAPTOP = TrainingSetup(SMALL, "adamw", 2, 2, 8, 1024, on_gpu=False)


@pytest.mark.parametrize(
    ("setup", "fused", "audited"),
    [
        # In billions of bytes: states, activations, output layer, buffers, step, peak.
        (replace(TRAVEL, batch_size=1, max_length=2052), False, (49.4, 0.6, 2.2, 3.0, 12, 66)),
        (TRAVEL, False, (49.4, 4.7, 2.3, 3, 12, 66)),
        (ZOOM, False, (16.4, 8.1, 5.6, 4, 12, 35)),
        (replace(ZOOM, zero_stage=1, batch_size=16), True, (45.0, 4.0, 4.2, 2, 0, 57)),
        (replace(ZOOM, ranks=1), False, (131.1, 8.1, 4.4, 3, 12, 147.5)),
    ],
    ids=["3B with short conversations", "3B", "8B on 8 with ZeRO-3", "8B on 8 with ZeRO-1", "8B on one"],
)
def test_the_paper_s_runs_need_what_an_audit_of_them_counted(setup: TrainingSetup, fused: bool, audited: tuple[float, ...]) -> None:
    """The audit found gradients in bfloat16, and a float32 copy of them below ZeRO-3; now they are summed in float32, in place."""
    found = estimate_memory(setup, fused=fused)
    states, activations, head, buckets, step, peak = audited
    more = 2e-9 * setup.shape.parameters / (setup.ranks if setup.zero_stage > 1 else 1)
    audited = (states + more, activations, head, buckets, step, peak + more)
    parts = (found.states, found.activations, found.head, found.buckets, found.step, found.peak)
    assert [part / 1e9 for part in parts] == [pytest.approx(expected, rel=0.1) for expected in audited]


@pytest.mark.parametrize(("longest", "measured"), [(482, 4.88e9), (627, 5.67e9)], ids=["travel", "insurance"])
def test_two_ranks_of_the_bundled_model_need_what_was_measured_on_a_cpu(longest: int, measured: float) -> None:
    """Peaks of trainings with the defaults after 55 and 84 steps, counted by the kernel (`VmHWM`): bfloat16, ZeRO-2."""
    setup = replace(LAPTOP, max_length=longest)
    assert estimate_memory(setup).peak == pytest.approx(measured, rel=0.1)
    assert host_memory(setup) == 2 * estimate_memory(setup).peak


def test_a_model_from_scratch_has_nothing_of_what_grew_in_trainings_of_a_pretrained_one() -> None:
    assert estimate_memory(replace(LAPTOP, pretrained=False)).base == memory_estimate.CPU_BASE


def test_a_checkpoint_has_the_fourteen_bytes_a_parameter_that_were_measured() -> None:
    need = disk_need(TRAVEL, saves=10)
    assert need.checkpoint == 14 * B3.parameters
    assert need.checkpoint / 1e9 == pytest.approx(43.2, rel=0.01)
    assert disk_need(ZOOM, saves=10).checkpoint / 1e9 == pytest.approx(114.7, rel=0.01)
    assert (disk_need(TRAVEL, saves=2).checkpoints, disk_need(TRAVEL, saves=0).checkpoints) == (2, 1)
    assert need.total == 2 * need.checkpoint + need.model


def test_steps_are_full_batches_of_all_epochs_up_to_the_limit() -> None:
    assert optimizer_steps(1912, 16, 20, None) == 20 * 119
    assert optimizer_steps(1912, 16, 20, 1000) == 1000


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_zero_stage_divides_one_more_part_among_the_ranks(stage: int) -> None:
    lower, higher = (estimate_memory(replace(ZOOM, zero_stage=each)) for each in (stage, stage + 1))
    shrunk = {name for name in ("optimizer", "gradients", "weights") if getattr(higher, name) * 7 < getattr(lower, name)}
    assert shrunk == {("optimizer", "gradients", "weights")[stage]}


def test_without_gradient_checkpointing_every_layer_keeps_its_tensors() -> None:
    per_token = estimate_memory(LAPTOP).activations / LAPTOP.tokens
    assert per_token == pytest.approx(0.8e6, rel=0.05)
    assert estimate_memory(replace(LAPTOP, on_gpu=True, batch_size=2)).activations / 1024 < per_token / 10


def test_float32_takes_more_than_bfloat16() -> None:
    assert estimate_memory(replace(LAPTOP, precision="float32")).peak > 1.3 * estimate_memory(LAPTOP).peak


def test_gradients_are_counted_in_the_precision_in_which_the_trainer_has_them_summed() -> None:
    assert TRAVEL.gradient_bytes == 4
    assert replace(TRAVEL, zero_stage=0).gradient_bytes == replace(TRAVEL, optimizer="muon").gradient_bytes == 2
    assert replace(LAPTOP, precision="float32").gradient_bytes == 4


def test_adapters_take_what_they_are_and_the_frozen_weights_have_no_gradients_and_no_states() -> None:
    adapted, full = replace(TRAVEL, lora_rank=64), estimate_memory(TRAVEL)
    trained, found = adapted.trained_parameters, estimate_memory(adapted)
    assert 0.02 < trained / B3.parameters < 0.05
    assert found.weights == 2 * (B3.parameters + trained)
    assert (found.gradients, found.optimizer) == (4 * trained, 12 * trained)
    assert found.activations == full.activations
    assert found.head < full.head / 4
    assert disk_need(adapted, saves=10).checkpoint == 14 * trained
    assert disk_need(adapted, saves=10).model == disk_need(TRAVEL, saves=10).model
    assert estimate_memory(replace(adapted, lora_rank=16)).peak < found.peak < full.peak / 3


def test_adapters_on_a_cpu_have_room_for_the_model_that_is_merged_at_the_end() -> None:
    adapted = estimate_memory(replace(LAPTOP, lora_rank=16))
    assert adapted.step == 2 * SMALL.parameters
    assert adapted.peak < estimate_memory(LAPTOP).peak


@pytest.mark.parametrize("name", ["MICRO_BATCH_TOKENS", "IN_PLACE_MICRO_BATCH_TOKENS", "CPU_MICRO_BATCH_TOKENS"])
def test_micro_batches_have_the_trainer_s_limits(name: str) -> None:
    assert getattr(memory_estimate, name) == getattr(step_plan, name)


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize(
    ("batch", "ranks", "longest"), [(16, 1, 4096), (32, 8, 4096), (32, 8, 900), (12, 1, 4096), (8, 2, 700), (4, 4, 9000)]
)
def test_no_micro_batch_of_the_trainer_has_more_tokens_than_are_counted(batch: int, ranks: int, longest: int, on_gpu: bool) -> None:
    setup = replace(TRAVEL, batch_size=batch, ranks=ranks, max_length=longest, on_gpu=on_gpu)
    lengths = [longest - 37 * number % (longest // 2) for number in range(batch * 12)]
    limit = step_plan.token_limit(ranks, pretrained_on_cpu=not on_gpu)
    steps = step_plan.StepPlan(lengths, batch, ranks, limit, seed=1).epoch(0)
    sizes = [sum(lengths[index] for index in micro) for shares in steps for share in shares for micro in share]
    assert setup.tokens / 2 < max(sizes) <= setup.tokens
    assert setup.micro_batch * longest <= setup.tokens


@pytest.mark.parametrize(("optimizer", "per_parameter"), [("adamw8bit", 8.03125), ("adamwbf16", 14)])
def test_without_a_float32_copy_each_rank_has_all_states_and_gradients_in_float32(optimizer: Any, per_parameter: float) -> None:
    one = estimate_memory(alone := replace(TRAVEL, optimizer=optimizer, zero_stage=0))
    assert one.states == per_parameter * B3.parameters
    assert (one.buckets, alone.tokens, alone.gradient_bytes) == (0, 4096, 4)
    two = estimate_memory(replace(alone, ranks=2))
    assert two.states == one.states
    assert two.buckets == 4 * (500_000_000 + B3.vocab_size * B3.hidden_size), "the copy of gradients that is summed over the ranks"
    assert disk_need(alone, saves=10).checkpoint == (per_parameter - 2) * B3.parameters, "weights twice, and no gradients"
