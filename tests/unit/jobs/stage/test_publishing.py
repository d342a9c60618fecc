"""What a stage worked with is deleted once its result is published, and never before."""

import errno
from pathlib import Path

import pytest

from subterra_jobs.errors import InfrastructureError
from subterra_jobs.stage.runner import StageContext, StageOutcome, execute
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import run_input


def with_checkpoints(folder: Path, context: StageContext) -> StageOutcome:
    """A stage that leaves a result in its output and what it was made from in ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / "state").write_text("hours of work")
    (context.output / "model.safetensors").write_bytes(bytes(3_000_000))
    return StageOutcome("a model", obsolete=folder)


def test_checkpoints_go_when_the_model_is_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints, run = tmp_path / "checkpoints", run_input(tmp_path / "store")
    publish = ArtifactStore.publish

    def publish_while_there(store: ArtifactStore, path: str, source: Path, about: dict[str, object]) -> str:
        assert (checkpoints / "state").is_file()
        return publish(store, path, source, about)

    monkeypatch.setattr(ArtifactStore, "publish", publish_while_there)
    result = execute("train", lambda context: with_checkpoints(checkpoints, context), run, port=0)
    assert ArtifactStore(run.store).manifest(result.path) is not None
    assert not checkpoints.exists()


def test_a_full_store_costs_no_checkpoint_and_says_how_much_room_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, run = tmp_path / "checkpoints", run_input(tmp_path / "store")

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ArtifactStore, "publish", full)
        with pytest.raises(InfrastructureError, match=r"result of 3 MB does not fit .* are free; free some space or raise"):
            execute("train", lambda context: with_checkpoints(checkpoints, context), run, port=0)
    assert (checkpoints / "state").is_file()
    execute("train", lambda context: with_checkpoints(checkpoints, context), run, port=0)
    assert not checkpoints.exists()
