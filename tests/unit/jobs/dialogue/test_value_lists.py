"""Real values: the lists are clean, and each variable gets the list that it asks for or none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.locale_data import LOCALES
from subterra_jobs.dialogue.phrasing.value_lists import list_for, value_lists
from subterra_jobs.dialogue.sampling import held_out, real_values
from subterra_jobs.generate.check.turn_checks import form_problem
from subterra_testkit.procedures import Json
from subterra_testkit.runs.generation_inputs import example

LISTS = {found.name: found for found in value_lists("en")}
SMALLEST = {"cities": 450, "given_names": 250, "family_names": 250, "medicines": 180, "products": 120}
FILES = sorted((LOCALES / "en").rglob("*.yaml"))
NAMES = ["Anna Kowalska", "Tom Reed"]
PLANTS = ["Basil", "Fern"]


def variable(name: str, values: list[str], description: str = "", **fields: Json) -> Variable:
    return Variable.model_validate({"name": name, "description": description, "values": values, "open": True} | fields)


def list_name(variable: Variable) -> str | None:
    found = list_for(variable)
    return found.name if found else None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_says_what_it_is_where_it_comes_from_and_its_licence(file: Path) -> None:
    head = file.read_text("utf-8")[:300]
    assert "Apache-2.0" in head
    assert "compiled by hand for this project" in head or "ritten for this project" in head


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_word_in_a_list_is_read_as_a_word(file: Path) -> None:
    """Unquoted, YAML reads the words on and no as booleans."""
    assert not list(_wrong(yaml.safe_load(file.read_text("utf-8"))))


@pytest.mark.parametrize("name", SMALLEST)
def test_a_list_is_long_and_has_nothing_twice(name: str) -> None:
    values = LISTS[name].values
    assert len(values) >= SMALLEST[name]
    assert len({value.casefold() for value in values}) == len(values)


@pytest.mark.parametrize("name", LISTS)
def test_a_customer_can_say_every_value(name: str) -> None:
    for value in LISTS[name].values:
        assert form_problem(value) is None
        assert value == value.strip()
        assert len(value.split()) <= 4
        assert all(letter.isalpha() or letter in " '-" for letter in value), value


@pytest.mark.parametrize(
    ("procedure", "expected"),
    [
        ("travel", {"destination": "cities"}),
        ("insurance", {"town": "cities", "item": "products"}),
        ("zoom", {"device": "products"}),
    ],
)
def test_variables_of_the_examples_get_the_list_they_ask_for(procedure: str, expected: dict[str, str]) -> None:
    found = {each.name: list_name(each) for each in example(procedure).variables}
    assert {name: value for name, value in found.items() if value} == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (variable("medicine", ["ibuprofen", "my blood pressure pills"]), "medicines"),
        (variable("city", ["Lyon", "Graz"]), "cities"),
        (variable("arrivalCity", ["Someplace"]), "cities"),
        (variable("city_of_birth", ["Someplace"]), "cities"),
        (variable("patient_name", NAMES), "people"),
        (variable("first_name", ["Anna", "Tom"]), "given_names"),
        (variable("surname", ["Kowalska", "Reed"]), "family_names"),
        (variable("name", NAMES, "The customer's name."), "people"),
        (variable("x", ["Someplace"], "Where the customer wants to go."), "cities"),
        (variable("x", ["Someplace"], "The customer's city."), "cities"),
        (variable("x", ["aspirin", "codeine", "my pills"]), "medicines"),
        (variable("product", ["aspirin", "codeine"]), "medicines"),
        (variable("place", ["Lyon", "the old harbour", "Graz"]), "cities"),
    ],
    ids=lambda asked: asked.name if isinstance(asked, Variable) else asked,
)
def test_a_name_a_description_or_the_values_say_which_list_fits(asked: Variable, expected: str) -> None:
    assert list_name(asked) == expected


@pytest.mark.parametrize(
    "asked",
    [
        variable("policy_number", ["P-4711", "P-4712"]),
        variable("city_code", ["Lis", "Par"], "The city's code."),
        variable("company_name", ["Acme", "Initech"]),
        variable("plan", PLANTS),
        variable("place", ["kitchen", "bathroom"], "Where the leak is."),
        variable("destination", ["locker", "front door"]),
        variable("product", ["savings account", "mortgage"]),
        variable("name", PLANTS, "Name of the plant."),
        variable("city", ["Москва", "Казань"]),
        Variable.model_validate({"name": "city", "type": "integer", "minimum": 1, "maximum": 9}),
    ],
    ids=lambda asked: f"{asked.name} {' '.join(asked.values)}",
)
def test_no_list_is_taken_for_a_variable_that_wants_something_else(asked: Variable) -> None:
    assert list_name(asked) is None
    assert real_values(asked, held_out=False) == real_values(asked, held_out=True) == ()


def test_real_values_are_written_as_the_authors_are() -> None:
    with_article = real_values(variable("item", ["a laptop", "a phone"]), held_out=False)
    assert {"a drone", "an air fryer"} <= set(with_article) | set(real_values(variable("item", ["a laptop"]), held_out=True))
    assert all(value.startswith(("a ", "an ")) for value in with_article)
    assert all(value[0].isupper() for value in real_values(variable("medicine", ["Ibuprofen"]), held_out=False))


def test_each_real_value_is_on_one_side_of_the_split_and_none_is_the_authors() -> None:
    asked = variable("city", ["Lyon", "Graz"])
    training, kept = (real_values(asked, held_out=side) for side in (False, True))
    assert not any(held_out("city", value) for value in training)
    assert all(held_out("city", value) for value in kept)
    assert set(training) | set(kept) == set(LISTS["cities"].values) - {"Lyon", "Graz"}
    assert 0.05 < len(kept) / len(training) < 0.2


def test_both_parts_of_a_full_name_are_of_one_culture() -> None:
    values = real_values(variable("patient_name", NAMES), held_out=False)
    assert "Kofi Mensah" in values
    assert "Kofi Tanaka" not in values


def _wrong(content: object) -> Iterator[object]:
    """Whatever stands in a list and is no string."""
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        if isinstance(value, dict | list):
            yield from _wrong(value)
        elif isinstance(content, list) and not isinstance(value, str):
            yield value
