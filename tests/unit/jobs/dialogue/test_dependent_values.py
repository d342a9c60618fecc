"""Values that bound each other, and the values of models under a procedure's `style`."""

import random
import re
from datetime import datetime
from typing import Any

import pytest

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.value_lists import list_for
from subterra_jobs.dialogue.sampling import ValueKind, held_out, sample_values

KINDS: tuple[ValueKind, ...] = ("plain", "real", "rich")


def variables(*fields: dict[str, Any]) -> list[Variable]:
    return [Variable.model_validate(each) for each in fields]


OFFERS = variables(
    {"name": "offer", "type": "integer", "minimum": 100, "maximum": 5000, "step": 50, "max": "{{limit}}", "visibility": "context"},
    {"name": "limit", "type": "integer", "minimum": 125, "maximum": 9000, "step": 50, "max": "{{bill}}", "visibility": "context"},
    {"name": "bill", "type": "integer", "minimum": 200, "maximum": 9900, "step": 10, "formats": ["{value}"]},
)
YEAR = {"type": "dateRange", "from": "2027-01-01", "to": "2027-12-31"}


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_offer_is_above_the_limit_and_no_limit_above_the_bill(kind: ValueKind, unseen: bool) -> None:
    for seed in range(300):
        drawn = sample_values(OFFERS, random.Random(seed), unseen=unseen, kind=kind)
        assert list(drawn) == ["offer", "limit", "bill"], "in the order of the procedure"
        offer, limit, bill = (int(value) for value in drawn.values())
        assert 100 <= offer <= limit <= bill <= 9900
        assert (offer - 100) % 50 == 0


def test_between_two_bounds_without_a_step_the_upper_one_is_the_value() -> None:
    asked = variables(
        {"name": "low", "type": "integer", "minimum": 305, "maximum": 305},
        {"name": "high", "type": "integer", "minimum": 340, "maximum": 340},
        {"name": "middle", "type": "integer", "minimum": 300, "maximum": 900, "step": 50, "min": "{{low}}", "max": "{{high}}"},
    )
    assert sample_values(asked, random.Random(1), unseen=False)["middle"] == "340"


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_begins_after_the_last_day_that_the_one_before_shows(kind: ValueKind) -> None:
    asked = variables(
        YEAR | {"name": "arrival", "formats": ["{start:%Y-%m-%d}/{end:%Y-%m-%d}"], "to": "2027-03-31"},
        YEAR | {"name": "leave", "formats": ["{start:%Y-%m-%d}"], "after": "{{arrival}}", "to": "2027-04-30"},
        YEAR | {"name": "back", "formats": ["{start:%Y-%m-%d}"], "after": "{{leave}}", "to": "2027-05-15"},
    )
    for seed in range(200):
        drawn = sample_values(asked, random.Random(seed), unseen=False, kind=kind)
        days = [datetime.fromisoformat(day) for day in (drawn["arrival"].partition("/")[2], drawn["leave"], drawn["back"])]
        assert days == sorted(set(days))


@pytest.mark.parametrize("unseen", [False, True])
def test_models_under_a_style_get_listed_and_real_places_and_no_invented_ones(unseen: bool) -> None:
    (asked,) = variables({"name": "destination", "open": True, "values": ["Lisbon", "Kyoto", "Porto", "Oslo", "Lima"]})
    fitting = list_for(asked)
    assert fitting is not None
    drawn = {sample_values([asked], random.Random(seed), unseen=unseen, kind="real")["destination"] for seed in range(400)}
    assert drawn <= {*asked.values, *fitting.values}
    assert len(drawn) > 20
    assert {held_out("destination", place) for place in drawn} == {unseen}


def test_models_under_a_style_get_dates_with_both_months_where_there_are_two() -> None:
    formats = ["{start:%-d} to {end:%-d %B}", "{start:%-d %B} to {end:%-d %B}"]
    asked = variables(YEAR | {"name": "dates", "formats": formats, "minDays": 5, "maxDays": 40})
    drawn = [sample_values(asked, random.Random(seed), unseen=False, kind="real")["dates"] for seed in range(400)]
    one_month = [text for text in drawn if re.fullmatch(r"\d+ to \d+ \w+", text)]
    assert one_month
    assert all(int(text.split()[0]) < int(text.split()[2]) for text in one_month)
