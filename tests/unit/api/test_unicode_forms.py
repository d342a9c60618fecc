"""Texts that people read as the same are the same: as composed letters or not, with any quotes, spaces and digits."""

import json
from unicodedata import normalize

import pytest

from subterra_api.digest import procedure_digest
from subterra_api.unicode_forms import alike, composed
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import agent, branch, end, procedure, shop

CITIES = {"name": "city", "values": ["Orléans", "Zürich"]}


def decomposed(spec: ProcedureSpec) -> ProcedureSpec:
    """The same procedure as an editor on macOS may store it."""
    return ProcedureSpec.model_validate(json.loads(normalize("NFD", json.dumps(spec.dump(), ensure_ascii=False))))


def test_a_procedure_means_the_same_however_its_letters_are_stored() -> None:
    spec = shop(branch("sell", "Nach {{city}}, bitte schön."), branch("refund", "Zurück."), variables=[CITIES])
    assert decomposed(spec) == spec
    assert procedure_digest(decomposed(spec)) == procedure_digest(spec)


def test_a_text_that_no_editor_took_apart_is_left_as_it_is() -> None:
    text = "“１２３ Yen”, it’s 5\u00a0€"
    assert procedure(agent("hello", "bye", examples=[text]), end()).nodes[0].examples == (text,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Orléans", normalize("NFD", "Orléans")),
        ("O'Brien", "O’Brien"),
        ('"yes"', "“yes”"),
        ("room 204", "room\u00a0２０４"),
        ("A-12", "Ａ\u2011１２"),
        ("ガ", normalize("NFD", "ガ")),
    ],
)
def test_forms_of_one_text_are_alike_and_places_in_them_are_the_same(one: str, other: str) -> None:
    assert alike(one) == alike(other)
    assert len(alike(other)) == len(composed(other))


def test_branches_whose_examples_differ_by_quotes_alone_are_told_apart_by_nobody() -> None:
    found = [str(finding) for finding in analyse(shop(branch("sell", "It's broken."), branch("refund", "It’s broken."))).errors]
    assert any("is also an example of the branch to sell, so it decides nothing" in text for text in found)
