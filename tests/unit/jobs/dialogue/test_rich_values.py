"""Values of scripted customers are of the real world and in more than one form; everybody else's are what they always were."""

import hashlib
import json
import random
import re
from calendar import month_name
from datetime import datetime

import pytest

from subterra_api.job_contract.messages import Evaluation, Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import Variable
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.phrasing.numbers_and_dates import spelled
from subterra_jobs.dialogue.phrasing.value_lists import list_for
from subterra_jobs.dialogue.sampling import LISTED_SHARE, REAL_SHARE, held_out, sample_values
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_testkit.procedures import Json
from subterra_testkit.runs.generation_inputs import example, travel

RECORDED = {
    "insurance": "168eb42377d8378f226d33ca523d452f2d212d59c413e6ca7d999b2abb9897b9",
    "travel": "664f1aad1f783e936fac0c5bf234b3c9aaa2af5f415178eebbe72df4847dcdcf",
    "zoom": "f400ca11591f27126eb7494eba08de9538590b116c523c3fdc54f35e0f273e82",
}
"""Digests of 300 draws from each example. Prompts that were paid for contain such values, so these must never change."""
HOSTED = Provider(name="anthropic", model="m")
CITY = {"name": "city", "open": True, "values": ["Lyon", "Graz", "Ghent", "Bath"]}
PEOPLE = {"name": "guests", "type": "integer", "minimum": 0, "maximum": 120}
STAY = {"name": "stay", "type": "dateRange", "from": "2027-01-01", "to": "2027-12-31", "minDays": 1, "maxDays": 30}
ONE_MONTH = ["{start:%-d} to {end:%-d %B}", "{start:%B %-d} to {end:%-d}"]
TWO_DAYS = re.compile(r"(?P<first>.+?)(?: to | until |-)(?P<last>.+)")
DAY = re.compile(r"\d+")
MONTH = re.compile("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec")


def variable(fields: Json, **more: Json) -> Variable:
    return Variable.model_validate({**fields, **more})  # type: ignore[dict-item]


def drawn(asked: Variable, count: int = 2000, *, unseen: bool = False) -> list[str]:
    rng = random.Random(asked.name)
    return [sample_values([asked], rng, unseen=unseen, rich=True)[asked.name] for _ in range(count)]


@pytest.mark.parametrize("name", RECORDED)
def test_plain_values_are_the_recorded_ones(name: str) -> None:
    variables = example(name).variables
    values = [sample_values(variables, random.Random(f"{name}/{n}"), unseen=n % 2 == 1) for n in range(300)]
    assert hashlib.sha256(json.dumps(values).encode()).hexdigest() == RECORDED[name]


def test_most_values_are_real_some_the_authors_and_few_made_up() -> None:
    asked = variable(CITY)
    fitting = list_for(asked)
    assert fitting is not None
    values = drawn(asked)
    authors = sum(value in asked.values for value in values)
    real = sum(value in set(fitting.values) for value in values)
    shares = [count / len(values) for count in (authors, real, len(values) - authors - real)]
    assert shares == pytest.approx([LISTED_SHARE, REAL_SHARE, 1 - LISTED_SHARE - REAL_SHARE], abs=0.04)


def test_where_no_list_fits_all_but_the_authors_are_made_up() -> None:
    values = drawn(variable(CITY, name="ward", values=["Nightingale", "Fleming"]))
    assert sum(value in ("Nightingale", "Fleming") for value in values) / len(values) == pytest.approx(LISTED_SHARE, abs=0.04)


def test_made_up_values_are_written_as_the_authors_are() -> None:
    things = drawn(variable(CITY, name="item", values=["a laptop", "an iron"]))
    assert all(re.match(r"an? (?!an? )", value) for value in things)
    assert all(value[0].islower() for value in drawn(variable(CITY, name="treatment", values=["flu", "hay fever"])))


def test_a_closed_variable_has_the_authors_values_only() -> None:
    assert set(drawn(variable(CITY, open=False))) == {"Lyon", "Graz", "Ghent", "Bath"}


def test_people_give_their_full_name_or_a_part_of_it() -> None:
    words = [len(value.split()) for value in drawn(variable(CITY, name="patient_name", values=["Anna Kowalska"]))]
    assert words.count(1) > 300
    assert words.count(2) > 1000


def test_some_small_numbers_are_in_words() -> None:
    values = drawn(variable(PEOPLE))
    words = {spelled(number): number for number in range(100)}
    assert len(words) == 100
    assert {"five", "twelve", "forty-two", "ninety"} <= set(words)
    assert all(value in words or value.isdigit() for value in values)
    assert sum(value in words for value in values) / len(values) == pytest.approx(0.12 * 100 / 121, abs=0.03)


@pytest.mark.parametrize("fields", [{"formats": ["${value}"]}, {"visibility": "context"}, {"minimum": -20, "maximum": -1}])
def test_amounts_what_the_agent_knows_and_negative_numbers_are_in_digits(fields: dict[str, Json]) -> None:
    assert all(re.fullmatch(r"\$?-?\d+", value) for value in drawn(variable(PEOPLE, **fields)))


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize(
    "asked",
    [CITY, CITY | {"name": "patient_name", "values": ["Anna Kowalska"]}, PEOPLE, STAY, STAY | {"formats": ["{start:%-d %B}"]}],
    ids=["city", "person", "number", "dates", "day"],
)
def test_every_kind_of_value_stays_on_its_side_of_the_split(asked: dict[str, Json], unseen: bool) -> None:
    numbers = {spelled(number): str(number) for number in range(100)}
    for value in drawn(variable(asked), 500, unseen=unseen):
        key = f"{_days(value)[0]:%m-%d}" if asked.get("type") == "dateRange" else numbers.get(value, value)
        assert held_out(str(asked["name"]), key) == unseen, value


@pytest.mark.parametrize("formats", [[], ONE_MONTH, [*ONE_MONTH, "{start:%-d %B} to {end:%B %-d}", "{start:%-d %B}"]])
def test_no_dates_are_impossible(formats: list[str]) -> None:
    for value in drawn(variable(STAY, formats=formats)):
        first, last = _days(value)
        assert 0 <= (last - first).days % 365 <= 30, value


def test_some_dates_are_in_another_form_than_the_authors() -> None:
    values = drawn(variable(STAY, formats=["{start:%-d %B}"]))
    other = [value for value in values if not re.fullmatch(r"\d+ [A-Z][a-z]+", value) or value.split()[1] not in month_name]
    assert len(other) / len(values) == pytest.approx(0.15, abs=0.03)
    forms = {DAY.sub("14", value) for value in values if "Mar" in value}
    assert {"14 March", "March 14th", "the 14th of March"} <= {re.sub("14(st|nd|rd)", "14th", form) for form in forms}
    assert not any(" to " in value for value in values)


@pytest.mark.parametrize(
    "fields",
    [
        {"formats": ["{start:%-d}. bis {end:%-d %B}"]},
        {"formats": ["{start:%Y-%m-%d}"]},
        {"formats": ["{start:%-d %B}"], "visibility": "context"},
    ],
    ids=["German words", "no month's name", "what the agent knows"],
)
def test_forms_are_the_authors_where_others_would_be_out_of_place(fields: dict[str, Json]) -> None:
    values = drawn(variable(STAY, **{"maxDays": 1, **fields}))
    assert not any(re.search(r"\d(st|nd|rd|th)\b|^[A-Z]", value) for value in values)


def test_a_date_with_a_year_keeps_it() -> None:
    values = drawn(variable(STAY, formats=["{start:%-d %B %Y}"]))
    assert all("2027" in value for value in values)
    assert any(value.startswith("the ") for value in values)


def real_share(values: list[str]) -> float:
    """Share of real cities that travel does not list."""
    fitting = next(list_for(asked) for asked in example("travel").variables if asked.name == "destination")
    assert fitting is not None
    return sum(value in set(fitting.values) for value in values) / len(values)


@pytest.mark.parametrize(("provider", "expected"), [(Provider(), REAL_SHARE), (HOSTED, 0)], ids=["scripted", "hosted"])
def test_without_a_style_customers_are_rich_exactly_when_nobody_is_paid_for_them(provider: Provider, expected: float) -> None:
    plan = plan_conversations(travel(), Generation(teacher=provider, conversations=200, seeds=(42,), held_out_percent=10))
    settings = Evaluation(simulator=provider, judge=Provider(), scenarios=200, seed=7)
    scenarios = build_scenarios(Graph(travel()), settings)
    for customers in (plan, scenarios):
        assert real_share([customer.values["destination"] for customer in customers]) == pytest.approx(expected, abs=0.1)


def _days(text: str) -> tuple[datetime, datetime]:
    """First and last day of a stay; a part that has no month has that of the other part."""
    found = TWO_DAYS.fullmatch(text)
    parts = list(found.groups()) if found else [text, text]
    months = [MONTH.search(part) for part in parts]
    named = [month.group() for month in months if month]
    assert named, text
    days = [int(DAY.search(part).group()) for part in parts]  # type: ignore[union-attr]
    names = [month.group() if month else named[0] for month in months]
    first, last = (datetime.strptime(f"{day} {name} 2027", "%d %b %Y") for day, name in zip(days, names, strict=True))
    return first, last


def test_made_up_codes_are_codes_like_the_authors() -> None:
    listed = ["INV-2027-001", "INV-2027-118", "R-88.12"]
    found = {*drawn(variable({"name": "invoice", "open": True, "values": listed}), 200)}
    assert all(re.fullmatch(r"INV-2027-\d{3}|[A-Z]-\d\d\.\d\d", each) for each in found)
    assert len(found - {*listed}) > 50


def test_units_are_no_part_of_a_code() -> None:
    found = {*drawn(variable({"name": "distance", "open": True, "values": ["120 km", "85.5 km"]}), 100)}
    assert all(re.fullmatch(r"\d{3} km|\d\d\.\d km", each) for each in found)
    times = drawn(variable({"name": "time", "open": True, "values": ["2 pm", "10 am"]}), 100)
    assert not any(re.fullmatch(r"\d+ (?!am|pm)[a-z]{2}", each) for each in times)


def test_where_too_few_codes_are_possible_names_are_made_up() -> None:
    found = drawn(variable({"name": "gate", "open": True, "values": ["Terminal 1", "Terminal 2"]}), 50)
    assert any(not DAY.search(each) for each in found)
