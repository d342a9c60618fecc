"""A text held against a template: what a regular expression finds, in a time that no reply can stretch."""

import random

import pytest

from subterra_jobs.dialogue.wording_patterns import compile_pattern

LISTED = ", ".join(f"{{{{v{number}}}}}" for number in range(12))


def test_it_finds_what_a_regular_expression_finds() -> None:
    rng = random.Random(7)
    for _ in range(100):
        parts = rng.choices(["a", "b", ", ", " ", "{{x}}", "{{y}}", "{{x}}"], k=rng.randint(1, 7))
        pattern = compile_pattern("".join(parts), limit=3)
        for _ in range(50):
            text = "".join(rng.choices(["a", "b", ",", " "], k=rng.randint(0, 9)))
            found = pattern.regex.fullmatch(text)
            assert pattern.values(text) == (found.groups() if found else None), (parts, text)


@pytest.mark.parametrize("stuck", ["Rome, " * 300, "Rome, " * 60 + "Rome. Right?", "a, " * 310 + "a. Right?"])
def test_a_reply_that_is_stuck_takes_no_time(stuck: str) -> None:
    """It would be hours: the test's own limit is the measure."""
    compile_pattern(f"So {LISTED}. Right?", 80).values(f"So {stuck}")


def test_values_are_as_short_as_can_be_and_keep_what_stands_in_them() -> None:
    pattern = compile_pattern("To {{city}}, {{days}}. Right?", 80)
    assert pattern.values("To Rome, Italy, 3 May. Right?") == ("Rome", "Italy, 3 May")
    assert pattern.values("To  Rome, 3 May. Right?") is None
    assert pattern.values("To Rome. Right?") is None
