"""The branch audit in the whole stage: it stops a run before more is paid, or only reports."""

import json
from pathlib import Path

import pytest

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate import main
from subterra_testkit.procedures import alike
from subterra_testkit.runs.generation_inputs import run_input
from subterra_testkit.runs.generation_runs import generate
from subterra_testkit.runs.in_process_pool import InProcessPool


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit is the stage's own; who writes the pilot does not matter."""
    monkeypatch.setattr(main, "RayPool", InProcessPool)


def test_the_stage_stops_before_the_rest_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="hub ask"):
        generate(run_input(tmp_path, alike(), conversations=2000), tmp_path / "out")
    assert list((tmp_path / "out" / "output").iterdir()) == []


def test_a_run_that_only_wants_a_report_goes_on_and_its_message_names_the_hub(tmp_path: Path) -> None:
    outcome, output = generate(run_input(tmp_path, alike(), conversations=100, audit="Report"), tmp_path / "out")
    assert outcome.message.endswith("no model can learn to decide at ask from such words")
    assert json.loads((output / "audit.json").read_text())["hubs"][0]["agreement"] < 0.9
