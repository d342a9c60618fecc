"""What a run's training needs, from its settings: cards, host memory, room on the store, and the smallest change that fits."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.stage_pods import TrainingPod
from subterra_core.training_fit import training_plan
from subterra_core.training_fit.fit_verdict import changes_that_fit, fits
from subterra_core.training_fit.gpu_cards import gpu_cards
from subterra_core.training_fit.memory_estimate import TrainingSetup, estimate_memory
from subterra_core.training_fit.model_shape import shape_of
from subterra_core.training_fit.training_plan import TrainingPlan, plan_training
from subterra_testkit.repository import ROOT

CARDS = {card.name: card for card in gpu_cards()}
ZOOM = TrainingSetup(shape_of("hf://Qwen/Qwen3-8B"), "adamw", 3, 8, 32, 4096, on_gpu=True)


def plan(uri: str, *, store: str = "1Ti", training: dict[str, Any] | None = None, **pod: Any) -> TrainingPlan:
    inputs = {"procedureRef": {"name": "travel"}, "baseModel": {"uri": uri}, "training": training or {}}
    return plan_training(
        CompileInputs.model_validate_json(json.dumps(inputs)),
        TrainingPod.model_validate_json(json.dumps(pod)),
        shape_of(uri),
        store,
    )


def on(gpus: int, card: str | None = None, **limits: str) -> dict[str, Any]:
    """A pod's settings with as many ranks as GPUs."""
    selector = {"nvidia.com/gpu.product": CARDS[card].products[0]} if card else {}
    return {"ranks": gpus, "nodeSelector": selector, "resources": {"limits": {"nvidia.com/gpu": gpus, **limits}}}


def test_three_billion_parameters_do_not_fit_a_card_of_32_gigabytes_and_what_would_is_named() -> None:
    (warning,) = plan("hf://Qwen/Qwen2.5-3B-Instruct", **on(1, "RTX-5090-32")).warnings
    assert warning == (
        "does not fit RTX-5090-32: 67 GB needed, 95 % of its 34 GB may be used; the smallest change that fits: "
        "training.optimizer: adamw8bit with training.zeroStage: 0 (30 GB per GPU) or "
        "4 GPUs with execution.train.ranks: 4 (27 GB per GPU) or H100-80 instead of RTX-5090-32 (67 GB per GPU)"
    )


def test_eight_billion_fit_eight_cards_and_not_one_that_would_be_full_to_the_last_gigabytes() -> None:
    assert plan("hf://Qwen/Qwen3-8B", **on(8, "A100-80")).warnings == ()
    # Muon's gradients are summed in bfloat16.
    full = plan("hf://Qwen/Qwen3-8B", training={"optimizer": "muon"}, **on(1, "H200-141"))
    assert full.memory.peak < CARDS["H200-141"].memory_bytes
    assert "148 GB needed, 95 % of its 151 GB may be used" in full.warnings[0]
    assert "164 GB needed" in plan("hf://Qwen/Qwen3-8B", **on(1, "H200-141")).warnings[0]
    assert [(change.setup.optimizer, change.setup.ranks) for change in full.changes] == [("adamwbf16", 1), ("muon", 2)]


def test_ranks_of_several_nodes_share_the_model_and_each_pod_has_its_part_of_the_memory() -> None:
    one, two = (plan("hf://Qwen/Qwen3-8B", nodes=nodes, **on(8, "A100-80")) for nodes in (1, 2))
    assert (two.setup.ranks, two.gpus, two.warnings) == (16, 8, ())
    assert two.memory.peak < one.memory.peak and two.host_bytes == one.host_bytes
    full = plan("hf://Qwen/Qwen3-8B", nodes=2, **on(1, "RTX-5090-32"))
    assert [change.setup.ranks for change in full.changes if change.setup.ranks != 2] == [], "nodes are for a person to choose"


def test_adapters_of_eight_billion_fit_a_card_that_the_whole_model_does_not() -> None:
    adapted = plan("hf://Qwen/Qwen3-8B", training={"method": "lora", "lora": {"rank": 128}}, **on(1, "A100-80"))
    assert (adapted.setup.lora_rank, adapted.warnings) == (128, ())
    assert "does not fit" in plan("hf://Qwen/Qwen3-8B", **on(1, "A100-80")).warnings[0]


def test_a_higher_zero_stage_is_the_smallest_change_where_there_are_ranks_to_divide_among() -> None:
    setup = replace(ZOOM, zero_stage=0)
    (change,) = changes_that_fit(setup, CARDS["A100-80"], gpu_cards())
    assert change.text == "training.zeroStage: 1"
    lighter, more = changes_that_fit(replace(setup, ranks=1), CARDS["A100-80"], gpu_cards())
    assert (lighter.text, more.setup.ranks) == ("training.optimizer: adamw8bit with training.zeroStage: 0", 4)


def test_without_a_copy_of_the_weights_in_float32_the_papers_single_cards_are_enough() -> None:
    travel = plan("hf://Qwen/Qwen2.5-3B-Instruct", training={"optimizer": "adamw8bit"}, **on(1, "RTX-5090-32"))
    recompile = plan("hf://Qwen/Qwen3-8B", training={"optimizer": "adamwbf16", "batchSize": 32}, **on(1, "H200-141"))
    assert (travel.warnings, recompile.warnings) == ((), ())
    assert (travel.setup.zero_stage, recompile.setup.zero_stage) == (0, 0)


def test_no_change_of_zero_stage_or_ranks_is_named_for_an_optimizer_that_divides_nothing() -> None:
    eight_bits = replace(ZOOM, optimizer="adamw8bit", zero_stage=0, ranks=2)
    assert [change.card.name for change in changes_that_fit(eight_bits, CARDS["A100-40"], gpu_cards())] == ["H100-80"]
    adapted = replace(ZOOM, ranks=1, lora_rank=128)
    assert all(change.setup.optimizer == "adamw" for change in changes_that_fit(adapted, CARDS["L4-24"], gpu_cards()))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_every_change_that_is_named_fits(stage: int, ranks: int) -> None:
    for card in gpu_cards():
        for change in changes_that_fit(replace(ZOOM, ranks=ranks, zero_stage=stage), card, gpu_cards()):
            assert fits(change.setup, change.card)
            assert change.peak == estimate_memory(change.setup).peak


def test_where_nothing_is_enough_the_warning_says_so() -> None:
    known = plan("hf://Qwen/Qwen3-8B", training={"batchSize": 1}, **on(1))
    deeper = known.setup.shape.model_copy(update={"num_hidden_layers": 400})
    (warning,) = replace(known, setup=replace(known.setup, shape=deeper)).warnings
    assert warning.startswith("does not fit any known GPU; the largest is H200-141: ")
    assert warning.endswith("no larger card, and no number of ranks up to 8, is enough")


@pytest.mark.parametrize(
    ("gpus", "ranks", "told"),
    [
        (8, 1, "the pod asks for 8 nvidia.com/gpu, but trains on 1; set execution.train.ranks: 8"),
        (2, 8, "execution.train.ranks is 8, but the pod asks for 2 nvidia.com/gpu; make them equal"),
    ],
)
def test_ranks_and_gpus_that_differ_are_named(gpus: int, ranks: int, told: str) -> None:
    assert told in plan("hf://Qwen/Qwen3-0.6B", **(on(gpus) | {"ranks": ranks})).warnings


def test_host_memory_is_compared_with_the_limit_of_the_pod() -> None:
    assert plan("hf://Qwen/Qwen3-8B", **on(8, memory="200Gi")).warnings == ()
    (warning,) = plan("hf://Qwen/Qwen3-8B", **on(8, memory="100Gi")).warnings
    assert warning == "the train pod may need 155 GB of host memory, and its limit is 100Gi; raise limits.memory"


def test_without_gpus_the_memory_is_that_of_the_pod_and_the_chart_s_limit_is_enough_for_the_bundled_model() -> None:
    small = plan("bundled://SmolLM2-135M-Instruct", ranks=2)
    assert (small.setup.on_gpu, small.memory_limit, small.warnings, small.changes) == (False, "14Gi", (), ())
    (warning,) = plan("bundled://SmolLM2-135M-Instruct", training={"maxLength": 4096}, ranks=2).warnings
    assert warning == (
        "the train pod may need 20 GB with conversations of 4,096 tokens, training.maxLength, and its limit is 14Gi; "
        "raise limits.memory or lower maxLength"
    )
    (warning,) = plan("hf://Qwen/Qwen2.5-3B-Instruct", ranks=1).warnings
    assert "its limit is 14Gi" in warning


def test_checkpoints_are_compared_with_the_claim() -> None:
    model = "hf://Qwen/Qwen2.5-3B-Instruct"
    (warning,) = plan(model, store="20Gi", **on(1)).warnings
    assert warning.startswith("the training needs 93 GB on the store, whose claim has 20Gi; raise store.size")
    assert plan(model, store="200Gi", **on(1)).warnings == ()
    assert plan(model, training={"checkpointSteps": 1_000_000}, **on(1)).disk.checkpoints == 1


def test_the_defaults_of_the_chart_are_those_of_the_chart() -> None:
    values = yaml.safe_load((ROOT / "charts/subterra/values.yaml").read_text())
    assert values["store"]["size"] == training_plan.DEFAULT_STORE_SIZE
    assert values["defaults"]["resources"]["train"]["limits"]["memory"] == training_plan.DEFAULT_TRAIN_MEMORY


@pytest.mark.parametrize(("count", "text"), [(43e9, "43 GB"), (6.17e9, "6.2 GB"), (9.96e9, "10 GB"), (11e6, "11 MB")])
def test_sizes_are_read_at_a_glance(count: float, text: str) -> None:
    assert training_plan.gigabytes(int(count)) == text
