"""The learning curve: what training leaves is what the report draws."""

import json
from pathlib import Path

from subterra_api.job_contract.artifacts import LOSS_LOG_FILE
from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve, parse_learning_curve, thinned
from subterra_jobs.evaluate.report.curve_chart import draw_curve
from subterra_jobs.train.model.loss_log import write_loss_log

HISTORY = [
    {"step": 1, "loss": 3.0, "learning_rate": 1e-5},
    {"step": 10, "loss": 1.5},
    {"step": 10, "eval_loss": 1.25, "eval_runtime": 9.1},
    {"step": 20, "loss": 0.75},
    {"step": 20, "eval_loss": 1.0},
    {"step": 20, "train_runtime": 100.0},
]


def test_a_training_leaves_its_losses_by_step_and_they_come_back(tmp_path: Path) -> None:
    write_loss_log(tmp_path, HISTORY, 20)
    content = (tmp_path / LOSS_LOG_FILE).read_bytes()
    assert b"9.1" not in content  # times would make equal trainings differ
    curve = parse_learning_curve(content)
    assert curve == LearningCurve(((1, 3.0), (10, 1.5), (20, 0.75)), ((10, 1.25), (20, 1.0)), 20)
    assert curve.to_json() == {"train": [[1, 3.0], [10, 1.5], [20, 0.75]], "heldOut": [[10, 1.25], [20, 1.0]], "bestStep": 20}


def test_a_model_without_a_log_or_with_a_broken_one_has_no_curve() -> None:
    rows = {"train": [[1, 2.0]], "heldOut": [], "bestStep": 1}
    assert [*map(parse_learning_curve, (None, b"{", b"[]", b'{"train": 1}', json.dumps(rows).encode()))] == [None] * 5


def test_a_step_that_was_logged_twice_has_its_last_loss_and_infinite_ones_are_left_out() -> None:
    rows = {"train": [[1, 3.0], [2, 2.5], [2, 2.0], [3, float("inf")]], "heldOut": [], "bestStep": None}
    curve = parse_learning_curve(json.dumps(rows).encode())
    assert curve is not None
    assert curve.train == ((1, 3.0), (2, 2.0))


def test_many_points_become_means_of_neighbors() -> None:
    assert thinned(((1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)), 2) == ((2, 3.0), (4, 0.5))
    assert thinned(((1, 4.0),), 2) == ((1, 4.0),)


def test_the_picture_has_both_lines_by_step_and_the_weights_that_were_kept() -> None:
    drawn = str(draw_curve(LearningCurve(((0, 4.0), (10, 2.0)), ((5, 2.0), (10, 1.0)), 5)))
    assert 'class="line train" points="48,12 628,119"' in drawn  # from the top left to half the height at the right
    assert 'class="line held" points="338,119 628,172.5"' in drawn
    assert '<line class="best" x1="338" x2="338"' in drawn
    assert "training loss from 4.000 to 2.000, held-out loss from 2.000 to 1.000" in drawn
