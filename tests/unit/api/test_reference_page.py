"""The page of the API has every field of the CRDs, with its type, its default and what it means."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field

from subterra_api import crd, reference_page
from subterra_api.v1alpha1.base import ApiModel

PAGE = reference_page.page(crd.MODELS)
ROWS = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", PAGE, re.M)
WITH_DEFAULT = re.compile(r"\bDefault: .*\.$")


class Part(ApiModel):
    """A type of its own."""

    name: str = Field(description="Its name.")


class Whole(ApiModel):
    """A type with a field of each form."""

    parts: list[Part] = Field(description="Its parts.")
    whole: Part
    share: float | None = Field(None, gt=0, le=1, description="A share. Default: 0.02.")
    count: int | None = Field(None, ge=1, le=20_000, description="A | number.")
    labels: dict[str, str] | None = Field(None, description="Labels.")


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and descriptions of all fields in a schema of a CRD."""
    for name, field in schema.get("properties", {}).items():
        yield name, field.get("description", "")
        yield from fields(field)
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        yield from fields(inner) if isinstance(inner, dict) else ()


@pytest.mark.parametrize("definition", crd.all_crds(), ids=lambda definition: definition["spec"]["names"]["kind"])
def test_every_field_of_a_kind_is_on_the_page_with_its_default(definition: dict[str, Any]) -> None:
    parts = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    shown = {(name, text.replace("\\|", "|"), default) for name, _, default, text in ROWS}
    known = {(name, text) for name, text, _ in shown} | {(name, f"{text} Default: {default}.") for name, text, default in shown}
    known |= {(name, f"Default: {default}.") for name, _, default in shown}
    assert [field for part in ("spec", "status") for field in fields(parts[part]) if field not in known] == []


def test_types_ranges_and_defaults_have_their_columns() -> None:
    page = reference_page.page([("Thing", "A thing.", Whole, Part)])
    assert "| `parts` | list of [Part](#part) | required | Its parts. |" in page
    assert "| `whole` | [Part](#part) | required | A type of its own. |" in page
    assert "| `share` | number, above 0, at most 1 | 0.02 | A share. |" in page
    assert "| `count` | integer, 1 to 20,000 |  | A \\| number. |" in page
    assert "| `labels` | map of string |  | Labels. |" in page


def test_each_type_has_one_table_and_no_default_stays_in_a_text() -> None:
    headings = re.findall(r"^### (\w+)$", PAGE, re.M)
    assert len(headings) == len(set(headings))
    assert [row for row in ROWS if WITH_DEFAULT.search(row[3])] == []
