"""How long a stage still takes, from what it did so far."""

from subterra_jobs.stage.progress import Pace


def test_what_a_restart_finds_done_does_not_make_the_rest_look_quick() -> None:
    """150 of 342 conversations are in the store; the others take six seconds each."""
    pace = Pace()
    pace.seconds_left(0, 0, 342)
    estimates = [pace.seconds_left(float(second), 150 + second // 6, 342) for second in range(1, 241)]
    assert estimates[-1] is not None
    assert abs(estimates[-1] - 6 * (342 - 190)) <= 60


def test_a_pace_that_changes_is_followed() -> None:
    """Ten a second for a minute, one a second since."""
    pace = Pace()
    for second in range(60):
        pace.seconds_left(float(second), 10 * second, 2000)
    for second in range(60, 241):
        left = pace.seconds_left(float(second), 590 + second - 59, 2000)
    assert left == 2000 - (590 + 241 - 60)


def test_too_little_work_says_nothing() -> None:
    """The first of many conversations that run at once took a minute and a half; that is not the pace of the others."""
    pace = Pace()
    pace.seconds_left(0, 0, 342)
    assert pace.seconds_left(80, 1, 342) is None
    assert pace.seconds_left(90, 9, 342) == 3330
    assert Pace().seconds_left(0, 5, 5) is None


def test_a_step_of_a_training_is_enough() -> None:
    pace = Pace()
    pace.seconds_left(0, 0, 94)
    assert pace.seconds_left(13, 1, 94) == 13 * 93
