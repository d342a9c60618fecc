"""The real sentence encoder: unit vectors, and other words for a step are closest to that step."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.tools.models import models_directory

from subterra_api.job_contract.environment import MODELS_VARIABLE
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, SentenceEncoder
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import EmbeddingLabeller
from subterra_testkit.runs.generation_inputs import travel

FOLDER = Path(os.environ.get(MODELS_VARIABLE) or models_directory()) / MODEL
VALUES = {"destination": "Porto", "dates": "2 to 9 May", "travellers": "2", "budget": "$2,500", "wish": "quieter"}


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there is no {FOLDER}: make test-tools unpacks it")
def test_other_words_for_a_step_are_labelled_by_the_real_encoder() -> None:
    encoder = SentenceEncoder(FOLDER)
    vectors = encoder.encode(["a much longer sentence of several words", "short", "short"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[1], vectors[2])
    assert np.allclose(vectors[1], SentenceEncoder(FOLDER).encode(["short"])[0], atol=1e-5), "padding changes nothing"
    labeller = EmbeddingLabeller(Graph(travel()), encoder)
    other_words = {
        "How much money do you want to spend on Porto from 2 to 9 May for 2?": "ask_budget",
        "Let me hand you over to a colleague of mine.": "handover",
        "Your holiday in Porto is reserved, have fun!": "booked",
    }
    found = {reply: labeller.label(reply, VALUES) for reply in other_words}
    assert {reply: labels[0].nodes[-1] for reply, labels in found.items()} == other_words
    assert labeller.label("The recipe needs two eggs and some flour.", VALUES) == []


def test_files_that_are_no_model_are_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InfrastructureError, match=f"the model in {tmp_path} cannot be loaded: .*; install its files again"):
        SentenceEncoder(tmp_path).encode(["Hello"])
