"""Checkpoints of an interrupted training: what a resume may trust, and what is kept until it has something better."""

from pathlib import Path

import pytest

from subterra_jobs.train.checkpoints import mark_complete, newest_complete, set_aside_unusable


def checkpoint(folder: Path, step: int, ranks: int | None) -> Path:
    """A checkpoint, complete if the number of ranks is given."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_text(f"{step} by {ranks}")
    if ranks is not None:
        mark_complete(path, ranks)
    return path


@pytest.mark.parametrize(
    "torn", ["", "{", '{"ranks"', "null", "[]", "{}", '{"ranks": 0}', '{"ranks": "1"}', '{"ranks": null}', "\x00"]
)
def test_a_torn_marker_makes_a_checkpoint_incomplete_and_blocks_nothing(tmp_path: Path, torn: str) -> None:
    good, bad = checkpoint(tmp_path, 10, 1), checkpoint(tmp_path, 20, 1)
    (bad / "complete.json").write_text(torn)
    assert newest_complete(tmp_path, 1) == good
    set_aside_unusable(tmp_path, 1)
    assert good.is_dir()
    assert not bad.exists()


def test_checkpoints_of_another_number_of_ranks_are_kept_until_the_new_training_has_a_complete_one(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10, 1)
    set_aside_unusable(tmp_path, 2)
    assert newest_complete(tmp_path, 2) is None
    assert not (tmp_path / "checkpoint-10").exists()
    new = checkpoint(tmp_path, 10, None)
    assert (tmp_path / "ranks-1/checkpoint-10/model.safetensors").read_text() == "10 by 1"
    mark_complete(new, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    assert newest_complete(tmp_path, 2) == new


def test_who_returns_to_the_first_number_of_ranks_resumes_where_that_was(tmp_path: Path) -> None:
    first = checkpoint(tmp_path, 10, 1)
    set_aside_unusable(tmp_path, 2)
    checkpoint(tmp_path, 10, None)
    set_aside_unusable(tmp_path, 1)
    assert newest_complete(tmp_path, 1) == first
    assert (first / "model.safetensors").read_text() == "10 by 1"
