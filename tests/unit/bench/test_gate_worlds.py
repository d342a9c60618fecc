"""In no world of the bench does the gate promote more than one in twenty candidates that are worse by the margin."""

import pytest
from bench.gate import leaks, other_worlds
from bench.gate.leaks import Row, promoted

REPEATS = 40
TOO_MANY = 6
"""Promotions of 40 that a rate of 5 % exceeds once in 70 times; the random numbers are always the same."""


@pytest.mark.parametrize("row", [*leaks.WORSE, *other_worlds.WORSE], ids=lambda row: row.name)
def test_a_worse_candidate_is_hardly_ever_promoted(row: Row) -> None:
    repeats = REPEATS // row.tries
    assert promoted(row, repeats, {})["gate"] * repeats < TOO_MANY


@pytest.mark.parametrize("name", ["equal", "equal, 110 of 300 untouched", "equal, attempt 5, n = 1,000", "97% fives, equal"])
def test_a_candidate_as_good_is_mostly_promoted(name: str) -> None:
    [row] = [row for row in (*leaks.EQUAL, *other_worlds.EQUAL) if row.name == name]
    assert promoted(row, REPEATS // 2, {})["gate"] >= 0.5


def test_rules_of_others_promote_worse_candidates_in_the_same_worlds() -> None:
    """A bench in which every rule does well would show nothing."""
    rates = [promoted(row, REPEATS // 4) for row in leaks.WORSE if row.tries == 1]
    others = set(rates[0]) - {"gate"}
    assert all(max(each[name] for each in rates) > 0.5 for name in others)
