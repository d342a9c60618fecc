"""Lint reports all faults at once, each with its location and its fix."""

from typing import Any

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Finding
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.yaml_reader import read_yaml

Nodes = list[dict[str, Any]]
HIDDEN = PLAN | {"visibility": "hidden"}
SAID = PLAN | {"visibility": "customer"}


def errors(spec: ProcedureSpec) -> list[str]:
    return [str(finding) for finding in analyse(spec).errors]


def only(spec: ProcedureSpec) -> Finding:
    (finding,) = analyse(spec).findings
    return finding


@pytest.mark.parametrize(
    ("nodes", "place", "fix"),
    [
        ([agent("hello", "nowhere"), end()], "edge hello → nowhere: there is no node", "correct the edge"),
        ([agent("hello", "bye"), end(), agent("lonely", "bye")], "node lonely: cannot be reached", "add an edge to it"),
        ([agent("hello", "ask"), agent("ask")], "node ask: is a dead end", "set outcome"),
        (
            [agent("hello", "ask"), user("ask")],
            "node ask: ends the conversation with the customer's words",
            "add an edge (next) to an agent's node that answers and has outcome: success",
        ),
        (
            [agent("hello", "ask"), user("ask", outcome="abandonment")],
            "node ask: ends the conversation with the customer's words",
            "outcome: abandonment",
        ),
        (
            [agent("hello", "ask", "bye", decidedBy="history"), user("ask", "hello2"), agent("hello2", "ask"), end()],
            "node ask: leads to no terminal",
            "add an edge that ends",
        ),
        ([agent("hello", "bye", prompt=" "), end()], "node hello: has no prompt", "describe what the agent should do"),
        ([agent("hello", "bye", prompt="Ask {{city}}"), end()], "node hello: uses {{city}}, which is not", "spec.variables"),
        ([agent("hello", "bye"), agent("hello", "bye"), end()], "node hello: its id is used more than once", "own id"),
        ([agent("hello", "bye", outcome="success"), end()], "node hello: has both an outcome and edges", "remove"),
        ([agent("hello", "bye", "other"), end(), end("other")], "node hello: is the agent's turn", "decidedBy"),
        ([user("hello", "bye", "bye"), end()], "edge hello → bye: there are several edges", "merge"),
        (
            [user("hello", {"to": "bye"}, "other"), end(), end("other")],
            "edge hello → bye: the customer decides here, but this edge has no",
            "set when",
        ),
        (
            [
                user("hello", {"to": "bye", "when": "The customer says yes."}, {"to": "other", "when": "the customer says: Yes"}),
                end(),
                end("other"),
            ],
            "edge hello → other: has the same condition as the branch to bye",
            "make their conditions differ",
        ),
        (
            [
                user("hello", {"to": "bye", "when": "Yes", "examples": ["OK"]}, {"to": "other", "when": "No", "examples": ["ok "]}),
                end(),
                end("other"),
            ],
            "edge hello → other: 'ok ' is also an example of the branch to bye",
            "keep it on one branch",
        ),
        (
            [user("hello", after("bye", "other", "bye"), "other"), end(), end("other")],
            "edge hello → bye: its guard names 'other', which is not a hub",
            "name a node with several edges",
        ),
        (
            [user("hello", after("bye", "hello", "hello"), "other"), end(), end("other")],
            "edge hello → bye: its guard names 'hello', which is not a branch of hello",
            "name targets",
        ),
        (
            [fact_hub("hello", way("bye", "Free", "Pro"), way("other", "Pro", "Business")), end(), end("other")],
            "edge hello → other: 'Pro' already leads to bye",
            "keep it on one edge",
        ),
        (
            [fact_hub("hello", way("bye", "Free"), way("other", "Pro")), end(), end("other")],
            "node hello: has no branch for plan being 'Business'",
            "add these values",
        ),
        (
            [fact_hub("hello", way("bye", "Free", "Pro", "Business"), way("other")), end(), end("other")],
            "edge hello → other: no value is left for this edge",
            "remove it",
        ),
        (
            [fact_hub("hello", way("bye"), way("other"), way("third", "Pro")), end(), end("other"), end("third")],
            "edge hello → other: another edge also takes all other values",
            "give one of them values",
        ),
        (
            [fact_hub("hello", way("bye", "Gold"), way("other")), end(), end("other")],
            "edge hello → bye: plan is never 'Gold'",
            "correct it",
        ),
        (
            [fact_hub("hello", way("bye", "Free"), way("other"), fact="mood"), end(), end("other")],
            "node hello: a fact decides, but there is no variable 'mood'",
            "spec.variables",
        ),
        (
            [agent("hello", way("bye", "Free"), way("other"), decidedBy="history"), end(), end("other")],
            "edge hello → bye: has values, but no fact decides here",
            "set decidedBy: fact",
        ),
        ([agent("hello", "bye", fact="plan"), end()], "node hello: names a fact, but no fact decides here", "remove fact"),
    ],
)
def test_every_fault_names_its_place_and_its_fix(nodes: Nodes, place: str, fix: str) -> None:
    reported = errors(procedure(*nodes, variables=[PLAN]))
    assert any(error.startswith(place) and fix in error for error in reported), reported


@pytest.mark.parametrize("example", ["travel", "zoom", "orders", "delivery"])
def test_a_wrong_edge_cuts_no_other_node_off(example: str) -> None:
    found = read_yaml((EXAMPLES / example / "procedure.yaml").read_text())["spec"]
    for node in found["nodes"]:
        for edge in node.get("next", ()):
            meant, edge["to"] = edge["to"], "nowhere"
            findings = errors(ProcedureSpec.model_validate(found))
            assert [text for text in findings if "there is no node 'nowhere'" in text]
            assert [text for text in findings if "cannot be reached" in text or "no terminal" in text] == []
            edge["to"] = meant


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        (PLAN, None),
        (HIDDEN, "depends on plan, which only the teacher sees: the model would learn to invent it"),
        (SAID, "depends on plan, which the customer may not have said by then"),
        (PLAN | {"open": True}, "depends on plan, which may have any value"),
        ({"name": "plan", "type": "integer", "minimum": 1, "maximum": 2, "visibility": "context"}, "which may have any value"),
    ],
)
def test_a_fact_must_be_what_the_agent_can_know(variable: dict[str, Any], problem: str | None) -> None:
    hub = fact_hub("check", way("bye", "Free"), way("other"))
    found = errors(procedure(agent("hello", "ask"), user("ask", "check"), hub, end(), end("other"), variables=[variable]))
    assert found == [] if problem is None else any(problem in error for error in found)


def test_a_customer_who_says_the_fact_before_the_hub_makes_it_known() -> None:
    hub = fact_hub("check", way("bye", "Free"), way("other"))
    said = user("ask", "check", examples=["I have {{plan}}."])
    assert errors(procedure(agent("hello", "ask"), said, hub, end(), end("other"), variables=[SAID])) == []


def test_a_customer_may_say_the_fact_at_the_hub_itself() -> None:
    hub = user("ask", way("bye", "Free"), way("other"), decidedBy="fact", fact="plan", prompt="Say your plan ({{plan}}).")
    assert errors(procedure(agent("hello", "ask"), hub, end(), end("other"), variables=[SAID])) == []


def test_a_way_round_the_customers_words_leaves_the_fact_unknown() -> None:
    hub = fact_hub("check", way("bye", "Free"), way("other"))
    talk = user("talk", "ask", "check")
    said = user("ask", "check", prompt="Say your plan ({{plan}}).")
    spec = procedure(agent("hello", "talk"), talk, said, hub, end(), end("other"), variables=[SAID])
    assert [finding.field for finding in analyse(spec).errors] == ["spec.nodes[3].fact"]


def test_the_customers_role_may_be_spelt_customer() -> None:
    spec = procedure(agent("hello", "ask"), user("ask", "bye", "other", role="customer"), end(), end("other"))
    assert analyse(spec) == analyse(procedure(agent("hello", "ask"), user("ask", "bye", "other"), end(), end("other")))
    assert analyse(spec).findings == ()


def test_guards_that_exclude_each_other_make_the_same_words_clear() -> None:
    spec = procedure(
        user("hello", "full", "half"),
        agent("full", "answer"),
        agent("half", "answer"),
        user("answer", after("all", "hello", "full", when="Yes."), after("some", "hello", "half", when="Yes.")),
        end("all"),
        end("some"),
    )
    assert analyse(spec).findings == ()


def test_history_that_leaves_no_way_on_is_an_error() -> None:
    spec = procedure(
        user("hello", "one", "two"),
        agent("one", "check"),
        agent("two", "check"),
        agent("check", after("bye", "hello", "one"), after("other", "hello", "one"), decidedBy="history"),
        end(),
        end("other"),
    )
    assert [str(error) for error in analyse(spec).errors] == [
        "node check: has no open edge in some conversations, because of maxVisits and guards; "
        "end the list with an edge that is always open"
    ]


def test_bounds_that_strand_a_conversation_are_a_warning() -> None:
    spec = procedure(agent("hello", "ask", maxVisits=1), user("ask", "again", "bye"), agent("again", "hello"), end())
    assert [str(warning) for warning in analyse(spec).warnings] == [
        "node again: has no open edge in some conversations, because of maxVisits and guards; "
        "raise maxVisits of hello, loosen guards, or add an edge",
        "edge again → hello: is never taken: guards, facts or maxVisits always close it; loosen them, or remove the edge",
    ]


def test_a_value_that_nobody_told_the_agent_is_a_warning() -> None:
    finding = only(procedure(agent("hello", "ask", prompt="Greet {{plan}}"), user("ask", "bye"), end(), variables=[SAID]))
    assert (finding.severity, finding.field) == ("warning", "spec.nodes[0]")
    assert "the model would learn to invent it" in finding.problem


def test_a_variable_in_the_system_prompt_is_refused_with_the_way_to_do_it() -> None:
    spec = procedure(agent("hello", "bye", prompt="{{plan}}"), end(), variables=[PLAN], systemPrompt="Help {{plan}} customers.")
    assert "visibility to context" in only(spec).fix


def test_all_faults_are_told_at_once_with_their_fields() -> None:
    spec = procedure(agent("hello", "nowhere", prompt=""), user("lost"), end(), start="hello")
    assert {finding.field for finding in analyse(spec).errors} == {
        "spec.nodes[0].next[0].to",
        "spec.nodes[0].prompt",
        "spec.nodes[1]",
    }


@pytest.mark.parametrize(
    ("language", "formats", "found"),
    [("de", [], True), ("de", ["{start:%-d. %B}"], True), ("de", ["{start:%-d.%-m.}"], False), ("en", ["{start:%-d %B}"], False)],
)
def test_english_names_of_days_in_another_language_are_a_warning(language: str, formats: list[str], found: bool) -> None:
    said = {"de": "Und welche Nacht möchten Sie, bitte, {{day}}?", "en": "Which night would you like, please, {{day}}?"}[language]
    day = {
        "name": "day",
        "type": "dateRange",
        "from": "2027-01-01",
        "to": "2027-05-01",
        "formats": formats,
        "visibility": "context",
    }
    fields = [each.field for each in analyse(procedure(agent("hello", "bye", examples=[said]), end(), variables=[day])).warnings]
    assert ("spec.variables[0].formats" in fields) == found


def test_a_format_cannot_reach_into_objects() -> None:
    variable = {"name": "people", "type": "integer", "minimum": 1, "maximum": 9, "formats": ["{value.__class__}"]}
    finding = analyse(procedure(agent("hello", "bye", prompt="{{people}}"), end(), variables=[variable])).errors[0]
    assert (finding.field, finding.problem) == ("spec.variables[0].formats[0]", "has the unsupported format '{value.__class__}'")


def test_an_unused_variable_is_only_a_warning() -> None:
    finding = only(procedure(agent("hello", "bye"), end(), variables=[{"name": "city", "values": ["Rome"]}]))
    assert (finding.severity, str(finding)) == ("warning", "variable city: is not used by any node; remove it or use it")


def test_a_procedure_that_no_run_could_carry_is_refused() -> None:
    spec = procedure(*(agent(f"n{number}", f"n{number + 1}", prompt="x" * 4000) for number in range(200)), end("n200"), start="n0")
    [finding] = analyse(spec).errors
    assert (finding.field, finding.fix) == ("spec", "shorten prompts, and move what they share to knowledge")
    assert "the limit is 512 KiB" in finding.problem


def test_a_condition_with_a_variable_that_is_not_declared_is_an_error() -> None:
    spec = procedure(user("hello", {"to": "bye", "when": "The customer goes to {{city}}."}, "other"), end(), end("other"))
    assert "edge hello → bye: uses {{city}}, which is not declared; add it to spec.variables or correct it" in errors(spec)


@pytest.mark.parametrize("field", ["examples", "when"])
def test_a_blank_text_is_an_error(field: str) -> None:
    edge = {"to": "bye", "when": "Yes.", "examples": ["Yes."]} | {field: "  " if field == "when" else ["  "]}
    spec = procedure(user("hello", edge, "other"), end(), end("other"))
    assert "edge hello → bye: is blank; write something, or leave it out" in errors(spec)


@pytest.mark.parametrize(
    ("variable", "problem", "fix"),
    [
        ({"minimum": 1, "maximum": 9}, "has minimum, but its type is string", "write type: integer"),
        ({"from": "2027-01-01", "to": "2027-02-01"}, "has from, but its type is string", "write type: dateRange"),
        ({"type": "integer", "values": ["one"]}, "has values, but its type is integer", "write type: string"),
        ({"type": "integer", "minimum": 9, "maximum": 1}, "has its minimum above its maximum", "swap them"),
        ({"type": "integer", "minimum": 1}, "needs minimum and maximum", "set both"),
        ({"type": "dateRange", "from": "2027-03-01", "to": "2027-02-01"}, "has its first day after its last", "swap from and to"),
        (
            {"type": "dateRange", "from": "2027-02-30", "to": "2027-03-01"},
            "has from: 2027-02-30, which is in no calendar",
            "2027-01-31",
        ),
        (
            {"type": "dateRange", "from": "2027-02-01", "to": "9999-12-31"},
            "has to: 9999-12-31, which is in no calendar",
            "2027-01-31",
        ),
        (
            {"type": "integer", "minimum": 1, "maximum": 9, "formats": ["number"]},
            "has the format 'number', which shows nothing of the value",
            "write {value} where the number stands",
        ),
        (
            {"type": "dateRange", "from": "2027-02-01", "to": "2027-03-01", "formats": ["{start:DD.MM.}"]},
            "has the unsupported format '{start:DD.MM.}'",
            "use {value}",
        ),
    ],
)
def test_a_variable_whose_fields_do_not_fit_its_type_is_told_which_do(variable: dict[str, Any], problem: str, fix: str) -> None:
    spec = procedure(agent("hello", "bye", prompt="{{x}}"), end(), variables=[{"name": "x", "visibility": "context", **variable}])
    (finding,) = analyse(spec).errors
    assert finding.problem == problem
    assert fix in finding.fix


LOOKUP = {"name": "lookup", "visibility": "result", "values": ["ok", "unknown", "timeout"]}


def retried(*ways: Any, more: tuple[Any, ...] = ()) -> ProcedureSpec:
    """A look-up by a number that the customer gives, with edges for how it ends."""
    find = {"id": "find", "role": "tool", "tool": "find_order", "arguments": [{"name": "number", "value": "{{number}}"}]}
    return procedure(
        agent("hello", "number"),
        user("number", "find", examples=["It is {{number}}."]),
        {**find, "decidedBy": "fact", "fact": "lookup", "next": [*ways]},
        end("found"),
        end("person"),
        *more,
        variables=[LOOKUP, {"name": "number", "type": "integer", "minimum": 1, "maximum": 9}],
        tools=[{"name": "find_order", "parameters": [{"name": "number"}], "outcome": "lookup"}],
    )


def test_a_call_that_is_made_again_until_it_succeeds_never_ends_and_is_an_error() -> None:
    assert errors(retried(way("found", "ok"), way("hello", "unknown"), way("person"))) == [
        "edge find → hello: comes back here each time when lookup is 'unknown', since a fact does not change in a conversation; "
        "lead to an end for that value, or limit the attempts at a node with decidedBy: history"
    ]


def test_a_loop_that_each_value_of_a_fact_leaves_is_no_error() -> None:
    assert errors(retried(way("found", "ok"), way("person"))) == []


def test_attempts_that_the_history_limits_are_no_error() -> None:
    again = agent("again", "once_more", "person", decidedBy="history")
    once_more = agent("once_more", "number", maxVisits=1)
    assert errors(retried(way("found", "ok"), way("again", "unknown"), way("person"), more=(again, once_more))) == []
