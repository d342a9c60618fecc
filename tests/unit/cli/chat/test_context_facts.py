"""Facts about the customer: what a value may be, in words and by check."""

import json
import re

import pytest
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import Variable
from subterra_cli.chat.context_facts import FactError, allowed_values, context_message, parse_facts, untrained_values
from subterra_cli.main import app
from subterra_testkit.procedures import PLAN, end, procedure, user
from subterra_testkit.repository import ROOT

OFFER = {"name": "offer", "type": "integer", "minimum": 1000, "maximum": 4900, "step": 50, "formats": ["${value:,}"]}
TOWN = {"name": "town", "open": True, "values": ["Salem", "Dover"]}
STAY = {"name": "stay", "type": "dateRange", "from": "2027-05-01", "to": "2027-05-01", "minDays": 2, "maxDays": 2}
MONTH = {"name": "month", "values": [f"month {number}" for number in range(1, 13)]}


def spec(*variables: dict[str, object]):  # type: ignore[no-untyped-def]
    return procedure(user("ask", "bye"), end(), start="ask", variables=[{"visibility": "context"} | each for each in variables])


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (PLAN, "one of Free, Pro, Business"),
        (TOWN, "any value, such as Salem, Dover"),
        (OFFER | {"maximum": 1000}, "a whole number from 1000 to 1000 in steps of 50, written as $1,000"),
        (STAY, "dates, written as 1 May to 3 May"),
        (MONTH, "one of " + ", ".join(f"month {number}" for number in range(1, 11)) + ", … (12 in all)"),
    ],
)
def test_what_a_value_may_be_is_said_in_words(variable: dict[str, object], words: str) -> None:
    assert allowed_values(Variable.model_validate(variable)) == words


@pytest.mark.parametrize(
    ("variable", "value", "trained"),
    [
        (PLAN, "Pro", True),
        (PLAN, "pro", False),
        (TOWN, "Atlantis", True),
        (OFFER, "$1,050", True),
        (OFFER, "1050", False),
        (OFFER, "$1,051", False),
        (OFFER, "$9,950", False),
        (OFFER, "much", False),
        (STAY, "next week", True),
    ],
)
def test_only_a_value_that_training_cannot_have_had_is_warned_of(variable: dict[str, object], value: str, trained: bool) -> None:
    assert (untrained_values(spec(variable), {str(variable["name"]): value}) == []) is trained


def test_facts_are_lines_in_the_order_of_the_procedure() -> None:
    assert context_message(spec(PLAN, TOWN), {"town": "Salem=MA", "plan": "Pro"}, ["subterra"]) == "plan: Pro\ntown: Salem=MA"


def test_a_value_may_contain_an_equals_sign_and_a_name_may_not_be_given_twice() -> None:
    assert parse_facts(["town = Salem=MA"]) == {"town": "Salem=MA"}
    with pytest.raises(ValueError, match="plan is given twice"):
        parse_facts(["plan=Pro", "plan=Free"])


def test_what_the_customer_says_is_no_fact() -> None:
    with pytest.raises(FactError, match="the agent does not read town in its system message; say it in the conversation instead"):
        context_message(spec(PLAN, TOWN | {"visibility": "customer"}), {"plan": "Pro", "town": "Salem"}, ["subterra"])


def test_the_command_quotes_values_for_the_shell() -> None:
    with pytest.raises(FactError, match=r"subterra chat x --fact 'offer=\$1,0") as refused:
        context_message(spec(OFFER | {"maximum": 1000}, PLAN), {"Plan": "Pro"}, ["subterra", "chat", "x"])
    assert "--fact Plan: the procedure has no fact of this name; did you mean plan?" in str(refused.value)
    assert str(refused.value).endswith("--fact plan=Pro")


def test_facts_lists_what_a_client_sends_and_which_node_reads_it_first() -> None:
    file = str(ROOT / "examples/insurance/procedure.yaml")
    shown = CliRunner().invoke(app, ["facts", file])
    assert shown.exit_code == 0
    assert re.search(r"^coverage +one of full, partial, excluded +coverage +7", shown.output, re.MULTILINE)
    assert re.search(r"^offer .*written as \$\d+ +full_offer +7 +partial_offer", shown.output, re.MULTILINE)
    schema = json.loads(CliRunner().invoke(app, ["facts", file, "-o", "json"]).output)
    assert (list(schema["properties"]), schema["required"]) == (["coverage", "offer", "limit"],) * 2


def test_facts_says_so_when_there_are_none() -> None:
    shown = CliRunner().invoke(app, ["facts", str(ROOT / "examples/travel/procedure.yaml")])
    assert shown.output == "the agent reads no facts from the system message: no variable has visibility: context\n"
