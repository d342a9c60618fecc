"""Which paths a procedure has."""

import random

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way


def paths(spec: ProcedureSpec) -> set[Path]:
    return set(Graph(spec).paths())


def test_a_loop_is_bounded_by_max_visits() -> None:
    spec = procedure(agent("hello", "ask", maxVisits=3), user("ask", "hello", "bye", maxVisits=3), end())
    assert sorted(len(path) for path in paths(spec)) == [3, 5, 7]


def test_a_guard_opens_an_edge_only_after_its_decision() -> None:
    spec = procedure(
        agent("hello", "ask"),
        user("ask", "yes", "no"),
        agent("yes", "reply"),
        agent("no", "reply"),
        user("reply", after("pay", "ask", "yes"), "bye"),
        end("pay"),
        end(),
    )
    assert {(path[2], path[-1]) for path in paths(spec)} == {("yes", "pay"), ("yes", "bye"), ("no", "bye")}


def test_a_guard_asks_for_the_last_decision_not_for_an_earlier_one() -> None:
    spec = procedure(
        agent("hello", "ask"),
        user("ask", "yes", "no"),
        agent("yes", "reply"),
        agent("no", "reply"),
        user("reply", "hello", after("pay", "ask", "yes"), "bye"),
        end("pay"),
        end(),
    )
    paid = {path for path in paths(spec) if path[-1] == "pay"}
    assert paid
    assert all([node for node in path if node in {"yes", "no"}][-1] == "yes" for path in paid)


def two_hubs_on_one_fact() -> ProcedureSpec:
    return procedure(
        fact_hub("hello", way("free", "Free"), way("paid")),
        agent("free", "ask"),
        agent("paid", "ask"),
        user("ask", "check"),
        fact_hub("check", way("sell", "Free"), way("help", "Pro"), way("call", "Business")),
        end("sell"),
        end("help"),
        end("call"),
        variables=[PLAN],
    )


def test_hubs_that_rest_on_one_fact_agree() -> None:
    assert {(path[1], path[-1]) for path in paths(two_hubs_on_one_fact())} == {("free", "sell"), ("paid", "help"), ("paid", "call")}


def test_a_scenarios_value_decides_where_a_fact_does() -> None:
    graph = Graph(two_hubs_on_one_fact())
    rng = random.Random(1)
    for plan, ending in (("Free", "sell"), ("Pro", "help"), ("Business", "call")):
        assert graph.walk(lambda _, edges: rng.choice(edges), values={"plan": plan})[-1] == ending


def test_a_path_tells_which_values_it_allows() -> None:
    graph = Graph(two_hubs_on_one_fact())
    assert graph.facts_on(("hello", "paid", "ask", "check", "call")) == {"plan": {"Business"}}
    assert graph.facts_on(("hello", "paid")) == {"plan": {"Pro", "Business"}}


def test_where_history_decides_the_first_open_edge_is_taken() -> None:
    spec = procedure(
        agent("hello", "ask"),
        user("ask", "retry", "bye"),
        agent("retry", {"to": "fix"}, {"to": "human"}, decidedBy="history"),
        agent("fix", "ask", maxVisits=1),
        end("human"),
        end(),
        start="hello",
    )
    assert paths(spec) == {
        ("hello", "ask", "bye"),
        ("hello", "ask", "retry", "fix", "ask", "bye"),
        ("hello", "ask", "retry", "fix", "ask", "retry", "human"),
    }
