"""Checkpoints of an interrupted training: what a resume may trust, and what is kept until it has something better."""

from pathlib import Path

import pytest

from subterra_jobs.train.checkpoints.best_weights import adopt_best, best_weights, keep_best
from subterra_jobs.train.checkpoints.resumable import distrust, mark_complete, newest_complete, set_aside_unusable


def checkpoint(folder: Path, step: int, ranks: int | None) -> Path:
    """A checkpoint, complete if the number of ranks is given; the folder's others stay."""
    alone = folder / "alone"
    path = alone / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(f"{step} by {ranks}")
    if ranks is not None:
        mark_complete(path, ranks)
    moved = path.rename(folder / path.name)
    alone.rmdir()
    return moved


@pytest.mark.parametrize(
    "torn",
    [
        "",
        "{",
        '{"ranks"',
        "null",
        "[]",
        "{}",
        '{"ranks": 0}',
        '{"ranks": "1"}',
        '{"ranks": null}',
        "\x00",
        '{"ranks": 1, "files": 7}',
    ],
)
def test_a_torn_marker_makes_a_checkpoint_incomplete_and_blocks_nothing(tmp_path: Path, torn: str) -> None:
    good, bad = checkpoint(tmp_path, 10, 1), checkpoint(tmp_path, 20, 1)
    (bad / "complete.json").write_text(torn)
    assert newest_complete(tmp_path, 1) == good
    set_aside_unusable(tmp_path, 1)
    assert good.is_dir()
    assert not bad.exists()


@pytest.mark.parametrize("content", [None, "", "20 by"])
def test_a_checkpoint_whose_file_is_gone_or_cut_is_incomplete(tmp_path: Path, content: str | None) -> None:
    good, bad = checkpoint(tmp_path, 10, 1), checkpoint(tmp_path, 20, 1)
    assert newest_complete(tmp_path, 1) == bad
    (bad / "model.safetensors").unlink()
    if content is not None:
        (bad / "model.safetensors").write_text(content)
    assert newest_complete(tmp_path, 1) == good


def test_a_marker_of_an_earlier_release_without_sizes_is_trusted(tmp_path: Path) -> None:
    old = checkpoint(tmp_path, 10, 2)
    (old / "complete.json").write_text('{"ranks": 2}')
    assert newest_complete(tmp_path, 2) == old


def test_an_older_checkpoint_goes_when_a_newer_one_is_complete_and_not_before(tmp_path: Path) -> None:
    older, newer = checkpoint(tmp_path, 10, 1), checkpoint(tmp_path, 20, None)
    assert newest_complete(tmp_path, 1) == older
    mark_complete(newer, 1)
    assert newest_complete(tmp_path, 1) == newer
    assert not older.exists()


def test_a_checkpoint_that_cannot_be_read_is_not_tried_again(tmp_path: Path) -> None:
    good, bad = checkpoint(tmp_path, 10, 1), checkpoint(tmp_path, 20, 1)
    distrust(bad)
    distrust(bad)  # every rank may find out
    assert newest_complete(tmp_path, 1) == good


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


def test_the_best_weights_outlive_their_checkpoint_and_take_no_room_besides_it(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, 10, 1)
    keep_best(source, tmp_path, 10, 0.5)
    kept = best_weights(tmp_path)
    assert kept is not None and (kept.step, kept.heldout_loss) == (10, 0.5)
    assert (kept.folder / "model.safetensors").samefile(source / "model.safetensors")
    mark_complete(checkpoint(tmp_path, 20, None), 1)
    assert not source.exists()
    assert (kept.folder / "model.safetensors").read_text() == "10 by 1"


def test_better_weights_take_the_place_of_the_best(tmp_path: Path) -> None:
    for step, loss in ((10, 0.5), (20, 0.4)):
        keep_best(checkpoint(tmp_path, step, 1), tmp_path, step, loss)
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-20"]


def test_of_two_best_weights_that_a_kill_left_the_better_ones_count_and_unfinished_ones_never(tmp_path: Path) -> None:
    keep_best(checkpoint(tmp_path, 10, 1), tmp_path, 10, 0.5)
    (tmp_path / "best-10").rename(tmp_path / "kept")
    keep_best(checkpoint(tmp_path, 20, 1), tmp_path, 20, 0.4)
    (tmp_path / "kept").rename(tmp_path / "best-10")
    (tmp_path / "best-30").mkdir()
    best = best_weights(tmp_path)
    assert best is not None and best.step == 20
    for name in ("partial-best-40", "weights-40"):
        (tmp_path / name).mkdir()
    set_aside_unusable(tmp_path, 1)
    assert not list(tmp_path.glob("*-40"))


def test_the_best_checkpoint_of_an_earlier_release_stays_the_best(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10, 1)
    newest = checkpoint(tmp_path, 20, 1)
    (newest / "trainer_state.json").write_text('{"best_global_step": 10, "best_metric": 0.25}')
    adopt_best(newest, tmp_path)
    best = best_weights(tmp_path)
    assert best is not None and (best.step, best.heldout_loss) == (10, 0.25)
    assert (best.folder / "model.safetensors").read_text() == "10 by 1"


def test_a_training_that_was_never_evaluated_has_no_best_weights(tmp_path: Path) -> None:
    newest = checkpoint(tmp_path, 20, 1)
    for state in (None, "{}", '{"best_global_step": null, "best_metric": null}'):
        if state is not None:
            (newest / "trainer_state.json").write_text(state)
        adopt_best(newest, tmp_path)
        assert best_weights(tmp_path) is None
