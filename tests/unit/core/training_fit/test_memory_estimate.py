"""The estimated memory of a training agrees with an independent audit and with what was measured."""

import ast
from dataclasses import dataclass, replace
from typing import Any

import pytest

from subterra_core.training_fit import memory_estimate
from subterra_core.training_fit.disk_need import disk_need, optimizer_steps
from subterra_core.training_fit.memory_estimate import TrainingSetup, estimate_memory, host_memory
from subterra_core.training_fit.model_shape import shape_of
from subterra_testkit.repository import ROOT

TRAINER = ast.parse((ROOT / "jobs/subterra_jobs/train/trainer.py").read_text())
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
        (replace(ZOOM, zero_stage=1, batch_size=16), True, (45.0, 4.0, 4.2, 2, 4, 57)),
        (replace(ZOOM, ranks=1), False, (131.1, 8.1, 4.4, 3, 12, 147.5)),
    ],
    ids=["3B with short conversations", "3B", "8B on 8 with ZeRO-3", "8B on 8 with ZeRO-1", "8B on one"],
)
def test_the_paper_s_runs_need_what_an_audit_of_them_counted(setup: TrainingSetup, fused: bool, audited: tuple[float, ...]) -> None:
    found = estimate_memory(setup, fused=fused)
    parts = (found.states, found.activations, found.head, found.buckets, found.step, found.peak)
    assert [part / 1e9 for part in parts] == [pytest.approx(expected, rel=0.1) for expected in audited]


def test_two_ranks_of_the_bundled_model_need_what_was_measured_on_a_cpu() -> None:
    """Measured with conversations of up to about 1,000 tokens: 3.1 to 4.1 GiB per rank in bfloat16 with ZeRO-2."""
    assert 3.1 <= estimate_memory(LAPTOP).peak / 2**30 <= 4.1
    assert host_memory(LAPTOP) == 2 * estimate_memory(LAPTOP).peak


def test_a_checkpoint_has_the_fourteen_bytes_a_parameter_that_were_measured() -> None:
    need = disk_need(TRAVEL, saves=10)
    assert need.checkpoint == 14 * B3.parameters
    assert need.checkpoints * need.checkpoint / 1e9 == pytest.approx(130, rel=0.01)
    assert disk_need(ZOOM, saves=10).checkpoint * 3 / 1e9 == pytest.approx(344, rel=0.01)
    assert (disk_need(TRAVEL, saves=2).checkpoints, disk_need(TRAVEL, saves=0).checkpoints) == (2, 1)
    assert need.total == 3 * need.checkpoint + need.model


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
    assert estimate_memory(replace(LAPTOP, precision="float32")).peak > 1.4 * estimate_memory(LAPTOP).peak


def _of_trainer(name: str) -> Any:
    """A constant of the trainer, which is not imported: it loads torch."""
    found = next(node for node in TRAINER.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
    return ast.literal_eval(found.value)


@pytest.mark.parametrize("name", ["MICRO_BATCH_TOKENS", "CPU_MICRO_BATCH_TOKENS"])
def test_micro_batches_have_the_trainer_s_limits(name: str) -> None:
    assert getattr(memory_estimate, name) == _of_trainer(name)


def test_a_batch_is_divided_as_the_trainer_does() -> None:
    layout = next(node for node in TRAINER.body if isinstance(node, ast.ClassDef) and node.name == "BatchLayout")
    names: dict[str, Any] = {"dataclass": dataclass, "MICRO_BATCH_TOKENS": memory_estimate.MICRO_BATCH_TOKENS}
    exec(compile(ast.Module([layout], []), "trainer.py", "exec"), names)  # noqa: S102 - the trainer's own text
    for batch, ranks, longest in ((16, 1, 4096), (32, 8, 4096), (32, 8, 900), (12, 1, 4096), (7, 2, 3000), (1, 1, 131072)):
        expected = names["BatchLayout"].for_ranks(batch, ranks, longest)
        assert replace(TRAVEL, batch_size=batch, ranks=ranks, max_length=longest).micro_batch == expected.micro


def test_as_many_checkpoints_are_counted_as_the_trainer_keeps_and_one() -> None:
    kept = [node.value for node in ast.walk(TRAINER) if isinstance(node, ast.keyword) and node.arg == "save_total_limit"]
    assert [ast.literal_eval(value) + 1 for value in kept] == [disk_need(TRAVEL, saves=100).checkpoints]
