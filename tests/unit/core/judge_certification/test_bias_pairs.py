"""Pairs for a judge's biases differ in what should not matter, and in nothing else."""

import pytest

from subterra_core.judge_certification.bias_pairs import count_moves, direction, formatted, naming, padded, sign_test

TURNS = [("customer", "Hi"), ("agent", "Hello, where to?"), ("customer", "To Rome."), ("agent", "Booked.")]


@pytest.mark.parametrize("change", [padded, formatted, lambda turns: naming(turns, "Nimbus 2")])
def test_a_change_keeps_every_word_and_the_customers_turns(change: object) -> None:
    assert callable(change)
    changed = change(TURNS)
    assert [speaker for speaker, _ in changed] == [speaker for speaker, _ in TURNS]
    assert all(before in after for (_, before), (_, after) in zip(TURNS, changed, strict=True))
    assert changed[::2] == TURNS[::2]
    assert changed != TURNS


def test_a_model_is_named_once_in_the_agents_first_turn() -> None:
    named = naming(TURNS, "Nimbus 2")
    assert named[1] == ("agent", "This is Nimbus 2. Hello, where to?")
    assert named[2:] == TURNS[2:]
    assert naming([("customer", "Hi")], "Nimbus 2") == [("customer", "Hi")]


def test_moves_are_counted_where_both_scores_are_known() -> None:
    found = count_moves("abc", "verbosity", [(20, 22), (20, 20), (20, 19), (None, 25), (20, None), (21, 25)])
    assert (found.higher, found.lower, found.of) == (2, 1, 4)


@pytest.mark.parametrize(
    ("higher", "lower", "p", "told"),
    [(6, 0, 0.03125, "higher"), (0, 6, 0.03125, "lower"), (5, 0, 0.0625, None), (10, 8, 0.8145, None), (0, 0, 1.0, None)],
)
def test_a_direction_is_named_only_if_chance_does_not_explain_it(higher: int, lower: int, p: float, told: str | None) -> None:
    moves = [(3.0, 4.0)] * higher + [(4.0, 3.0)] * lower + [(5.0, 5.0)] * 20
    found = count_moves("abc", "order", moves)
    assert sign_test(found) == pytest.approx(p, abs=1e-4)
    assert direction(found) == told
