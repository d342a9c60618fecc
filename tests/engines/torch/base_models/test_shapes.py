"""The parameters that an estimate counts by a config.json are those of the model that transformers builds from it."""

from typing import Any, get_args

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from subterra_core.training_fit.model_shape import DenseType, shape_from_config
from subterra_testkit.runs.small_models import SIZES

SMALL: dict[str, Any] = SIZES | {"vocab_size": 1000, "pad_token_id": 0}


@pytest.mark.parametrize("tied", [True, False, None])
@pytest.mark.parametrize("kind", get_args(DenseType))
def test_parameters_are_counted_by_type(kind: str, tied: bool | None) -> None:
    given = SMALL | ({} if tied is None else {"tie_word_embeddings": tied})
    config = AutoConfig.for_model(
        kind, **given, **({"head_dim": 16} if kind not in ("phi3", "granite", "olmo2", "smollm3") else {})
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    written = config.to_diff_dict() | {"model_type": kind}
    assert shape_from_config(written | SMALL).parameters == model.num_parameters()
