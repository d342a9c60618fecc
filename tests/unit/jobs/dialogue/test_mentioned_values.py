"""Values in free words, whatever the case and the alphabet of who writes them."""

import pytest

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.similarity.mentioned_values import masked, mentioned_values


def variable(*values: str) -> Variable:
    return Variable.model_validate({"name": "city", "description": "A city.", "values": values})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Istanbul", "istanbul"),
        ("Istanbul", "İstanbul"),
        ("İzmir", "izmir"),
        ("Diyarbakir", "Diyarbakır"),
        ("IĞDIR", "ığdır"),
        ("Gießen", "GIESSEN"),
        ("Gießen", "Gießen"),
        ("ΑΘΗΝΑΣ", "αθηνας"),
        ("Kelvin", "\u212aelvin"),
    ],
)
def test_a_value_is_found_in_upper_and_lower_case_of_any_alphabet(value: str, said: str) -> None:
    assert masked(f"To {said}, please.", {"city": value}) == "To city, please."


@pytest.mark.parametrize(("value", "said"), [("Istanbul", "İstanbul"), ("Gießen", "gießen"), ("Diyarbakir", "Diyarbakır")])
def test_a_listed_value_is_read_as_it_is_listed(value: str, said: str) -> None:
    assert mentioned_values(f"To {said}, please.", [variable(value, "Rome")], {}) == (("city", value),)
    assert mentioned_values(f"To {said}, please.", [variable(value, "Rome")], {"city": value}) == (("city", value),)
