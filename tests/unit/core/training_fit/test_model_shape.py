"""Shapes of base models and memory of cards are data that agree with what is published."""

from importlib.resources import files

import pytest
import yaml

from subterra_core.training_fit import model_shape
from subterra_core.training_fit.gpu_cards import gpu_cards, selected_card
from subterra_core.training_fit.model_shape import ModelShape, UnknownShapeError, known_shapes, shape_from_config, shape_of

ENTRIES = yaml.safe_load(files(model_shape.__package__ or "").joinpath(model_shape.SHAPES_FILE).read_text())["models"]
QWEN3_8B = next(entry["config"] for entry in ENTRIES if "Qwen/Qwen3-8B" in entry["names"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["names"][0])
def test_the_parameters_that_a_shape_counts_are_those_that_are_published(entry: dict[str, object]) -> None:
    assert ModelShape.model_validate(entry["config"]).parameters == entry["parameters"]
    assert entry["source"]


def test_a_shape_is_found_by_the_uri_of_the_base_model() -> None:
    assert shape_of("hf://Qwen/Qwen2.5-3B-Instruct") == known_shapes()["Qwen/Qwen2.5-3B"]
    assert shape_of("bundled://SmolLM2-135M-Instruct").parameters == 134_515_008
    assert shape_of("scratch").hidden_size == 128


@pytest.mark.parametrize("uri", ["hf://Qwen/Qwen9-9B", "pvc://Qwen/Qwen3-8B", "s3://bucket/scratch"])
def test_a_model_that_is_not_known_says_how_to_give_its_shape(uri: str) -> None:
    with pytest.raises(UnknownShapeError, match=r"not known; pass the model's config.json with --model-shape FILE"):
        shape_of(uri)


def test_the_config_of_a_model_is_enough_and_one_that_is_no_dense_decoder_is_refused() -> None:
    assert shape_from_config(QWEN3_8B | {"architectures": ["Qwen3ForCausalLM"], "rope_theta": 1e6}).parameters == 8_190_735_360
    with pytest.raises(UnknownShapeError, match=r"qwen3: missing or unusable model_type$"):
        shape_from_config(QWEN3_8B | {"model_type": "qwen3_moe"})
    with pytest.raises(UnknownShapeError, match="missing or unusable model_type, hidden_size"):
        shape_from_config({})


def test_cards_have_the_memory_of_their_name_and_are_found_by_the_label_of_a_node() -> None:
    for card in gpu_cards():
        assert card.memory_bytes / 1e9 == pytest.approx(int(card.name.rpartition("-")[2]), rel=0.08)
        assert [selected_card({"nvidia.com/gpu.product": product}) for product in card.products] == [card] * len(card.products)
    assert selected_card({"nvidia.com/gpu.product": "Other"}) is None
    assert selected_card({}) is None
