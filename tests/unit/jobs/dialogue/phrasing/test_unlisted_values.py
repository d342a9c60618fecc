"""Values that a closed variable does not list fit the sentence in which a customer names them."""

import pytest

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.unlisted_values import is_thing, unlisted_values


def values_like(listed: list[str], before: str = "") -> list[str]:
    return [each for each in unlisted_values(Variable(name="x", values=tuple(listed)), before) if each not in listed]


def test_to_weekdays_other_days_are_unlisted() -> None:
    found = values_like(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"], "On ")
    assert {"Saturday", "Sunday"} <= {*found}
    assert "with dragons" not in found


def test_to_values_with_numbers_other_numbers_are_unlisted() -> None:
    assert "5 pm" in values_like(["noon", "1 pm", "2 pm", "4 pm"], "Until ")
    assert "3a" in values_like(["1a", "1b", "2a"])
    assert all(each.endswith("0%") is False or each not in ("10%", "20%") for each in values_like(["10%", "20%"]))


def test_to_names_other_names_are_unlisted() -> None:
    found = values_like(["Main Street", "Old Mill", "Harbour"], "At ")
    assert "Riverside" in found
    assert all(each[0].isupper() for each in found)


@pytest.mark.parametrize("before", ["At the ", "My ", "Leave it in our "])
def test_behind_an_article_a_noun_is_unlisted_without_another_article(before: str) -> None:
    found = values_like(["garage", "back door"], before)
    assert "lighthouse" in found
    assert not any(is_thing(each) for each in found)


def test_behind_a_preposition_a_thing_is_unlisted() -> None:
    assert all(is_thing(each) for each in values_like(["yesterday", "a week"], "Since "))


def test_in_other_places_qualities_are_unlisted_as_they_are_listed() -> None:
    assert "with dragons" in values_like(["cheaper", "quieter"], "Something ")
    assert not any(is_thing(each) for each in values_like(["cheaper", "quieter"], "Something "))


@pytest.mark.parametrize("before", ["I have ", "We had ", "There is ", "Sorry, there's ", "I want "])
def test_behind_a_verb_that_takes_a_thing_a_thing_is_unlisted(before: str) -> None:
    assert all(is_thing(each) for each in values_like(["no dial tone", "slow internet"], before))


def test_to_times_of_day_other_hours_are_unlisted_and_no_impossible_ones() -> None:
    found = values_like(["9:00", "11:30", "21:45", "08:15"])
    assert {"10:00", "2:30", "22:45", "09:15"} <= {*found}
    assert {each.partition(":")[2] for each in found} == {"00", "30", "45", "15"}
    assert all(1 <= int(each.partition(":")[0]) <= 23 for each in found)
