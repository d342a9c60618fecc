"""The integration contract says which facts a client sends, what each may be, and when it has to be there."""

import random
import re
from typing import Any

import jsonschema
import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.context_contract import Reader, context_facts, context_schema
from subterra_jobs.dialogue.sampling import context_lines, sample_values
from subterra_testkit.procedures import PLAN, agent, end, fact_hub, procedure, user, way
from subterra_testkit.repository import ROOT

LIMIT = {"name": "limit", "visibility": "context", "type": "integer", "minimum": 0, "maximum": 9000, "step": 50}
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/procedure.yaml"))


def readers(spec: ProcedureSpec) -> dict[str, tuple[Reader, ...]]:
    return {fact.variable.name: fact.readers for fact in context_facts(spec)}


def test_a_fact_is_read_where_it_decides_and_where_the_agent_says_it() -> None:
    spec = procedure(
        agent("hello", "ask"),
        user("ask", "check"),
        fact_hub("check", way("free", "Free"), way("bye")),
        end("free", prompt="Say that {{plan}} ends here."),
        end("bye", examples=["Your limit is {{limit}}."]),
        variables=[LIMIT, PLAN],
    )
    assert readers(spec) == {"limit": (Reader("bye", 2),), "plan": (Reader("check", 2), Reader("free", 2))}


def test_turns_of_the_agent_in_a_row_are_one_message() -> None:
    """A fact of the second turn must be there when the model begins the first."""
    spec = procedure(
        agent("hello", "more"), agent("more", "ask"), user("ask", "tell"), end("tell", prompt="{{plan}}"), variables=[PLAN]
    )
    assert readers(spec) == {"plan": (Reader("tell", 2),)}
    joined = procedure(agent("hello", "more"), end("more", prompt="{{plan}}"), variables=[PLAN])
    assert readers(joined) == {"plan": (Reader("more", 1),)}


def test_a_fact_that_decides_at_the_customers_node_is_needed_for_the_reply() -> None:
    hub = user("ask", way("one", "Free"), way("two"), decidedBy="fact", fact="plan")
    spec = procedure(agent("hello", "ask"), hub, end("one"), end("two"), variables=[PLAN])
    assert readers(spec) == {"plan": (Reader("ask", 2),)}


def test_the_shortest_way_counts() -> None:
    spec = procedure(
        agent("hello", "ask"),
        user("ask", "detour", "tell"),
        agent("detour", "again"),
        user("again", "tell"),
        end("tell", prompt="{{plan}}"),
        variables=[PLAN],
    )
    assert readers(spec) == {"plan": (Reader("tell", 2),)}


def test_what_the_customer_says_is_no_fact_and_an_unread_fact_is_listed() -> None:
    spec = procedure(
        agent("hello", "bye"), end(), variables=[PLAN, {"name": "size", "values": ["S"]}, {"name": "code", "visibility": "hidden"}]
    )
    assert readers(spec) == {"plan": ()}
    assert "x-firstReadBy" not in context_schema(spec, "shop")["properties"]["plan"]


def as_json(schema: dict[str, Any], lines: str) -> dict[str, Any]:
    """What a client would have filled in to send `lines`."""
    kinds = {name: each["type"] for name, each in schema["properties"].items()}
    pairs = (line.split(": ", 1) for line in lines.splitlines())
    return {name: int(value) if kinds[name] == "integer" else value for name, value in pairs}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_context_of_training_fits_the_schema(example: str) -> None:
    spec = load_spec(ROOT / f"examples/{example}/procedure.yaml")
    schema = context_schema(spec, example)
    jsonschema.Draft202012Validator.check_schema(schema)
    for seed in range(50):
        values = sample_values(spec.variables, random.Random(seed), unseen=seed % 2 == 1)
        given = as_json(schema, context_lines(spec, values))
        assert list(given) == list(schema["properties"])
        jsonschema.validate(given, schema)


FORMATTED = [
    (LIMIT, "limit: 450", "limit: 451"),
    (LIMIT | {"formats": ["${value:,} (max.)", "{value} %"]}, "limit: $1,250 (max.)", "limit: $1,250 max"),
    ({"name": "limit", "visibility": "context", "values": ["Oslo"], "open": True}, "limit: Porto", "limit: "),
    ({"name": "limit", "visibility": "context", "values": ["Oslo"]}, "limit: Oslo", "limit: Porto"),
]


@pytest.mark.parametrize(("variable", "good", "bad"), FORMATTED)
def test_the_schema_takes_values_as_training_writes_them_and_no_others(variable: Any, good: str, bad: str) -> None:
    schema = context_schema(procedure(agent("hello", "bye"), end(), variables=[variable]), "shop")
    jsonschema.validate(as_json(schema, good), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(as_json(schema, bad), schema)


def test_missing_and_unknown_facts_do_not_fit() -> None:
    schema = context_schema(procedure(agent("hello", "bye"), end(), variables=[PLAN]), "shop")
    for given in ({}, {"plan": "Free", "colour": "red"}):
        with pytest.raises(jsonschema.ValidationError, match=re.compile("required|Additional")):
            jsonschema.validate(given, schema)
