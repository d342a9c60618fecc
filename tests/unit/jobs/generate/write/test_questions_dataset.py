"""From a procedure with questions to its dataset, with the scripted teacher."""

import json
from pathlib import Path

import pytest

from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, answer_texts, question_percents
from subterra_jobs.generate import main
from subterra_jobs.generate.plan.question_plan import LEAST
from subterra_jobs.train.main import wordings
from subterra_testkit.runs.generation_inputs import example, run_input
from subterra_testkit.runs.generation_runs import generate
from subterra_testkit.runs.in_process_pool import InProcessPool


def test_the_dataset_has_every_question_with_its_answer_and_says_how_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "RayPool", InProcessPool)
    spec = example("library")
    outcome, output = generate(run_input(tmp_path, spec, conversations=150), tmp_path / "out")
    assert "questions asked in fewer" not in (outcome.message or "")
    counts = json.loads((output / "coverage.json").read_text())["questions"]
    assert counts.keys() == question_percents(spec).keys()
    assert min(counts.values()) >= LEAST
    rows = (output / "train.jsonl").read_text().splitlines()
    for name in counts:
        texts = answer_texts(spec, name)
        assert sum(any(text in row for text in texts) for row in rows) == counts[name]


def test_a_tokenizer_made_on_the_spot_knows_questions_and_answers() -> None:
    texts = wordings(example("library"))
    assert "Is there a car park?" in texts
    assert "You may keep a book for 4 weeks." in texts
    assert answer_texts(example("library"), UNKNOWN_QUESTION)[0] in texts
