"""A stage that evaluates another run's model reads that run's input, with what its environment changes."""

from pathlib import Path

import pytest

from subterra_api.job_contract.environment import EVALUATED_AGAIN_VARIABLE
from subterra_api.job_contract.messages import EvaluatedAgain, RunIdentity
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.runner import read_input
from subterra_testkit.cluster import kubernetes_objects as make


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The frozen input of a run."""
    path = tmp_path / "input.json"
    path.write_text(make.frozen(make.run())["data"]["input.json"])
    return str(path)


def test_the_environment_changes_who_evaluates_and_how(file: str) -> None:
    frozen = read_input(file, {})
    evaluation = frozen.evaluation.model_copy(update={"seed": 8})
    change = EvaluatedAgain(run=RunIdentity(name="travel-2", namespace="demo", uid="2"), evaluation=evaluation)
    changed = read_input(file, {EVALUATED_AGAIN_VARIABLE: change.model_dump_json(by_alias=True)})
    assert (changed.run.name, changed.evaluation.seed, changed.keys.model) == ("travel-2", 8, frozen.keys.model)
    assert changed.keys.report != frozen.keys.report
    assert read_input(file, {EVALUATED_AGAIN_VARIABLE: ""}) == frozen


def test_an_invalid_change_is_named(file: str) -> None:
    with pytest.raises(InvalidInputError, match=r"(?s)SUBTERRA_EVALUATED_AGAIN is invalid .*evaluation.*images of one version"):
        read_input(file, {EVALUATED_AGAIN_VARIABLE: '{"run": {"name": "travel-2", "namespace": "demo", "uid": "2"}}'})
