"""Edges that the customer may take at any turn: what lint says of them, where they are open, and what they leave as it was."""

import time
from typing import Any

import pytest

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.anywhere import (
    LARGEST_SHARE,
    anywhere_shares,
    condition_words,
    reached_only_by_leaving,
    without_anywhere,
)
from subterra_core.procedure.context_contract import context_facts
from subterra_core.procedure.counting.path_count import count_paths
from subterra_core.procedure.diff import ProcedureDiff
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.unspoken import check_examples
from subterra_core.procedure.text import flowchart_text
from subterra_testkit.procedures import PLAN, Json, agent, end, fact_hub, procedure, user, way

PERSON: Json = {"to": "human", "when": "The customer asks for a person.", "examples": ["A person, please."]}
FLOW = (agent("hello", "name"), user("name", "offer"), agent("offer", "choice"), user("choice", "bye", "offer"), end())
HUMAN = end("human", outcome="escalation")


def flow(*anywhere: Json, nodes: tuple[Json, ...] = (*FLOW, HUMAN), **more: Any) -> ProcedureSpec:
    return procedure(*nodes, anywhere=[*anywhere], **more)


def findings(spec: ProcedureSpec) -> list[str]:
    return [str(finding) for finding in analyse(spec).findings]


def test_conditions_are_compared_without_order_unless_one_of_their_words_negates() -> None:
    assert condition_words("The customer says: yes!") == condition_words("Yes says a customer")
    assert condition_words("Says a day and not a time.") != condition_words("Says a time and not a day.")


def test_a_target_that_only_anywhere_edges_lead_to_is_reached() -> None:
    spec = flow(PERSON)
    assert findings(spec) == []
    assert reached_only_by_leaving(spec) == {"human"}
    assert "node human: cannot be reached" in findings(without_anywhere(spec))[0]


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        ({"to": "nobody"}, "there is no node 'nobody'", "add that node or correct the edge"),
        ({"to": "choice"}, "leads to choice, where the customer speaks again", "name a node of the agent"),
        ({"except": ["nowhere"]}, "there is no node 'nowhere'", "remove it from except"),
        ({"except": ["offer"]}, "excepts offer, where the agent speaks", "name the customer's node that follows"),
        ({"except": ["name", "choice"]}, "is open at no node of the customer", "take a node of the customer from except"),
        ({"when": "GAP: when?"}, "still contains 'GAP: when?'", "replace it"),
        ({"examples": ["I am {{nobody}}."]}, "uses {{nobody}}, which is not declared", "add it to spec.variables"),
    ],
)
def test_lint_names_what_is_wrong_with_an_anywhere_edge_and_its_fix(changes: Json, problem: str, fix: str) -> None:
    found = [text for text in findings(flow(PERSON | changes)) if text.startswith("anywhere edge to")]
    assert any(problem in text and fix in text for text in found), found


def test_two_anywhere_edges_are_told_apart_by_target_condition_and_examples() -> None:
    other = {"to": "bye", "when": "A customer asks for the person!", "examples": ["a  PERSON, please."]}
    found = [str(each) for each in analyse(flow(PERSON, other)).errors]
    assert "anywhere edge to bye: has the same condition as the anywhere edge to human" in found[0]
    assert "'a  PERSON, please.' is also an example of the anywhere edge to human" in found[1]
    assert "another anywhere edge leads to the same node; merge them" in findings(flow(PERSON, PERSON | {"when": "Other."}))[0]


@pytest.mark.parametrize(
    "own",
    [
        {"to": "human", "when": "The customer is angry."},
        {"to": "bye", "when": "Customer asks for the person"},
        {"to": "bye", "when": "The customer leaves.", "examples": ["a person, please."]},
    ],
)
def test_where_a_node_has_such_an_edge_itself_that_one_is_taken_and_lint_says_so(own: Json) -> None:
    nodes = (agent("hello", "name"), user("name", "offer"), agent("offer", "choice"), user("choice", own, "offer"), HUMAN)
    spec = flow(PERSON, nodes=(*nodes, end()))
    assert set(Graph(spec).anywhere) == {"name"}
    assert any(f"choice → {own['to']}, which goes before it there" in str(each) for each in analyse(spec).warnings)


def test_the_scripted_teacher_needs_examples_of_an_anywhere_edge() -> None:
    spec = flow(PERSON | {"examples": []})
    assert [each.where for each in check_examples(spec) if each.where.startswith("anywhere")] == ["anywhere edge to human"]


def test_a_target_that_says_what_a_customer_may_not_have_said_yet_is_warned_of_and_one_that_decides_by_it_refused() -> None:
    nodes = (agent("hello", "name"), user("name", {"to": "bye", "examples": ["{{plan}}"]}), end())
    said = PLAN | {"visibility": "customer"}
    speaks = flow(PERSON, nodes=(*nodes, HUMAN | {"prompt": "Say that a colleague for {{plan}} comes."}), variables=[said])
    assert any("node human: the agent says {{plan}}, which may be unknown at this point" in text for text in findings(speaks))
    hub = fact_hub("human", way("bye", "Free"), way("late"))
    decides = flow(PERSON, nodes=(*nodes, hub, end("late")), variables=[said])
    assert any("depends on plan, which the customer may not have said by then" in str(each) for each in analyse(decides).errors)
    late = flow(PERSON | {"examples": ["A person for {{plan}}."]}, nodes=(*nodes, hub, end("late")), variables=[said])
    assert analyse(late).errors == ()


def test_paths_are_counted_as_if_there_were_no_anywhere_edges_and_where_they_are_open_is_counted_apart() -> None:
    back = {"to": "hello", "when": "The customer wants to start over."}
    found, plain = analyse(flow(PERSON | {"except": ["name"]}, back | {"except": ["name"]})), analyse(procedure(*FLOW))
    assert (found.paths, found.truncated) == (plain.paths, False)
    assert (found.min_turns, found.max_turns) == (plain.min_turns, plain.max_turns)
    assert (found.anywhere, found.leaving_nodes) == (2, 1)


def chain(length: int) -> list[Json]:
    """Questions and answers in a row, the middle one reached again by an anywhere edge."""
    nodes: list[Json] = []
    for number in range(length):
        nodes += [agent(f"ask{number}", f"say{number}"), user(f"say{number}", f"ask{number + 1}" if number + 1 < length else "bye")]
    return nodes


def test_500_nodes_with_anywhere_edges_are_checked_in_seconds() -> None:
    nodes = [*chain(248), end(), HUMAN, agent("again", "ask124")]
    again = {"to": "again", "when": "The customer wants to start over.", "examples": ["Once more."]}
    spec = procedure(*nodes, start="ask0", anywhere=[PERSON, again])
    begun = time.process_time()
    found = analyse(spec)
    assert time.process_time() - begun < 5
    assert (found.path_count, found.findings, found.leaving_nodes) == ("1", (), 248)


def test_after_an_anywhere_edge_a_fact_keeps_its_values_and_the_last_decision_stands() -> None:
    nodes = (
        agent("hello", "ask"),
        user("ask", {"to": "free", "values": ["Free"]}, {"to": "paid"}, decidedBy="fact", fact="plan"),
        agent("free", "bye"),
        agent("paid", "bye"),
        end(),
        fact_hub("human", way("bye", "Free"), way("late")),
        end("late"),
    )
    graph = Graph(flow(PERSON, nodes=nodes, variables=[PLAN]))
    step = graph.take(graph.begin(), graph.open_edges(graph.begin())[0])
    (leaving,) = graph.leaving_edges(step)
    left = graph.take(step, leaving)
    assert [edge.to for edge in graph.open_edges(left)] == ["bye", "late"]
    assert graph.facts_on(("hello", "ask", "human", "late")) == {"plan": frozenset({"Pro", "Business"})}


def test_each_anywhere_edge_is_taken_once_in_a_walk_and_as_often_as_max_visits_allows_when_followed() -> None:
    nodes = (agent("hello", "name"), user("name", "bye"), end(), agent("help", "name"))
    graph = Graph(flow({"to": "help", "when": "The customer asks for help."}, nodes=nodes))
    step = graph.take(graph.begin(), graph.open_edges(graph.begin())[0])
    step = graph.take(step, graph.leaving_edges(step)[0])
    step = graph.take(step, graph.open_edges(step)[0])
    assert graph.leaving_edges(step) == []
    assert [edge.to for edge in graph.leaving_edges(step, again=True)] == ["help"]
    assert [edge.to for edge in graph.choices(step, again=False)] == ["bye"]
    assert [edge.to for edge in graph.choices(step, again=True)] == [edge.to for edge in graph.edges_of("name")] == ["bye", "help"]


def test_a_procedure_without_anywhere_edges_keeps_its_digest_and_one_with_them_has_its_own() -> None:
    plain = procedure(*FLOW, HUMAN)
    assert procedure_digest(plain) == procedure_digest(procedure(*FLOW, HUMAN, anywhere=[]))
    assert procedure_digest(flow(PERSON)) == procedure_digest(flow(PERSON | {"percent": 5, "except": []}))
    assert procedure_digest(plain) != procedure_digest(flow(PERSON))


def test_an_edit_of_an_anywhere_edge_affects_the_paths_that_take_it_alone() -> None:
    old, path, left = flow(PERSON), ("hello", "name", "offer", "choice", "bye"), ("hello", "name", "human")
    worded = ProcedureDiff(old, flow(PERSON | {"when": "The customer wants a human."}))
    assert worded.edges.changed == {"anywhere → human": ("when",)}
    assert (worded.affects(path), worded.affects(left)) == (False, True)
    assert (worded.must_rewrite(path), worded.must_rewrite(left)) == ((), ("name", "human"))
    rarer = ProcedureDiff(old, flow(PERSON | {"percent": 2}))
    assert not rarer.affects(left)
    assert rarer.must_rewrite(left) == ()


def test_models_read_anywhere_edges_with_their_exceptions_below_the_nodes() -> None:
    text = flowchart_text(flow(PERSON | {"except": ["name"]}))
    assert text.endswith("  -> human when: The customer asks for a person. (not at name)")
    assert flowchart_text(procedure(*FLOW)).endswith("bye (agent, the end: success): Say goodbye.")


def test_a_fact_that_the_target_reads_is_needed_as_early_as_a_customer_can_leave() -> None:
    reads = HUMAN | {"prompt": "Say that a colleague for {{plan}} comes."}
    (fact,) = context_facts(flow(PERSON, nodes=(*FLOW, reads), variables=[PLAN]))
    assert fact.first is not None
    assert (fact.first.node, fact.first.message) == ("human", 2)


def test_shares_add_up_to_half_of_the_conversations_at_most() -> None:
    many = [{"to": f"n{number}", "when": f"Number {number}.", "percent": 30} for number in range(3)]
    shares = anywhere_shares(flow(PERSON)), anywhere_shares(flow(*many))
    assert shares[0] == {"human": 0.05}
    assert sum(shares[1].values()) == pytest.approx(LARGEST_SHARE)


def test_a_loop_of_anywhere_edges_alone_does_not_count_as_a_way_to_an_end() -> None:
    spec = flow(PERSON, nodes=(agent("hello", "name"), user("name", "hello"), HUMAN, end()))
    assert any("leads to no terminal" in text for text in findings(spec))
    assert count_paths(Graph(without_anywhere(flow(PERSON)))).paths == 2


def test_half_a_megabyte_of_examples_with_twenty_anywhere_edges_is_checked_within_a_second() -> None:
    """As other worst cases are: the operator checks what anybody may write."""
    nodes: list[Json] = []
    for number in range(240):
        examples = [f"{number} {text}" for text in range(50)]
        following = {"to": f"ask{number + 1}" if number < 239 else "bye", "examples": examples}
        nodes += [agent(f"ask{number}", f"say{number}"), user(f"say{number}", following)]
    ends = [end(f"end{number}") for number in range(19)]
    edges = [
        {"to": f"end{number}", "when": f"It is {number}.", "examples": [f"end {number} {text}" for text in range(50)]}
        for number in range(19)
    ]
    spec = procedure(*nodes, *ends, end(), start="ask0", anywhere=edges)
    begun = time.process_time()
    found = analyse(spec)
    assert time.process_time() - begun < 1
    assert (found.findings, found.leaving_nodes) == ((), 240)
