"""What would be trained wrongly without a word, or fail with a library's words, is refused with model, file and fix."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.model.base_model import load_model, load_tokenizer
from subterra_jobs.train.model.refusals import refused_by_transformers, require_rows
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT


def rewrite(file: Path, **fields: Any) -> None:
    kept = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in kept.items() if value is not None}))


def load(folder: Path) -> Any:
    return load_model(str(folder), load_tokenizer(str(folder), SYSTEM_PROMPT, ()), seed=0)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"model_type": "qwen9", "transformers_version": "9.0"},
            r"model_type is qwen9, .* does not know \(it was written by 9\.0\)",
        ),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.C"}}, "and code in the model's directory is never run"),
        ({"model_type": "vit"}, "model_type is vit, and .* has no such model that writes text"),
        ({"hidden_size": 63}, r"cannot load it \(.*\); correct that, or name another model"),
        ({"num_hidden_layers": 3}, r"its files lack model\.layers\.2\..* weights in all\), which would be random"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_its_field(tmp_path: Path, fields: dict[str, Any], refusal: str) -> None:
    folder = small_llama(tmp_path)
    rewrite(folder / "config.json", **fields)
    with pytest.raises(InvalidInputError, match=f"base model {tmp_path}: .*{refusal}"):
        load(folder)


def test_a_model_whose_output_layer_is_not_in_its_files_is_refused(tmp_path: Path) -> None:
    folder = small_llama(tmp_path)
    rewrite(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(InvalidInputError, match=r"its files lack lm_head\.weight \(1 weights in all\)"):
        load(folder)


def test_weights_in_another_precision_than_the_configuration_says_are_loaded(tmp_path: Path) -> None:
    folder = small_llama(tmp_path)
    rewrite(folder / "config.json", dtype="float16", torch_dtype="float16")
    assert torch.isfinite(load(folder)(torch.tensor([[1, 2]])).logits).all()


def test_damage_that_another_attempt_may_not_see_keeps_its_own_type(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), refused_by_transformers("pvc://mine"):
        raise OSError(28, "No space left on device")
    with pytest.raises(RuntimeError, match="CUDA out of memory"), refused_by_transformers("pvc://mine"):
        raise RuntimeError("CUDA out of memory")


def test_a_token_beyond_the_embeddings_is_refused_with_its_number(tmp_path: Path) -> None:
    folder = str(small_llama(tmp_path))
    tokenizer = load_tokenizer(folder, SYSTEM_PROMPT, ())
    model = load_model(folder, tokenizer, seed=0)
    require_rows(model, tokenizer, [[1, 2]], folder)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(InvalidInputError, match=r"token <new> of its tokenizer has number \d+, and its embeddings have \d+ rows"):
        require_rows(model, tokenizer, [[1], [len(tokenizer) - 1]], folder)


def test_a_directory_of_another_models_weights_is_refused(tmp_path: Path) -> None:
    folder = small_llama(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({f"vision.{name}": value for name, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInputError, match="its files lack "):
        load(folder)
