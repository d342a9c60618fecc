"""Edges that no walk takes are found where there are too many walks to count."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.procedure.counting.test_path_count import tangled

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.counting.closed_edges import closed_edges
from subterra_core.procedure.counting.path_count import count_paths
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way

KNOT = [f"n{number}" for number in range(16)]
LAST = "last"


def behind_a_knot(*nodes: dict[str, Any], **more: Any) -> ProcedureSpec:
    """Nodes in front of which everything leads everywhere, with more paths than can be counted."""
    knot = [user(name, *(other for other in KNOT if other != name), LAST) for name in KNOT]
    return procedure(*knot, *nodes, start=KNOT[0], **more)


@settings(max_examples=150)
@given(st.integers(0, 100_000))
def test_no_edge_that_some_walk_takes_is_called_closed(seed: int) -> None:
    graph = Graph(tangled(seed))
    assert not closed_edges(graph) & count_paths(graph).taken


CASES = {
    "a fact that was decided before": (
        [
            fact_hub(LAST, way("free", "Free"), way("bye")),
            fact_hub("free", way("bye", "Free"), way("never")),
            end("never"),
            end(),
        ],
        {("free", "never")},
    ),
    "a guard on a branch that leads elsewhere": (
        [
            user(LAST, "yes", "no"),
            user("yes", after("bye", LAST, "yes"), after("never", LAST, "no")),
            agent("no", "bye"),
            end("never"),
            end(),
        ],
        {("yes", "never")},
    ),
    "a guard on a hub that comes later": (
        [
            user(LAST, "later", after("never", "later", "bye")),
            user("later", "bye", "other"),
            end("other"),
            end("never"),
            end(),
        ],
        {(LAST, "never")},
    ),
    "what stands behind an edge that is always open": (
        [agent(LAST, "bye", "never", decidedBy="history"), end("never"), end()],
        {(LAST, "never")},
    ),
    "a way back to a node that is visited once": (
        [agent(LAST, "ask", maxVisits=1), user("ask", LAST, "bye"), end()],
        {("ask", LAST)},
    ),
    "all that only a closed edge leads to": (
        [
            user(LAST, "bye", after("never", "later", "bye")),
            agent("never", "later"),
            user("later", "bye", "other"),
            end("other"),
            end(),
        ],
        {(LAST, "never"), ("never", "later"), ("later", "bye"), ("later", "other")},
    ),
    "nothing": ([user(LAST, "again", "bye"), agent("again", LAST), end()], set()),
}


@pytest.mark.parametrize("case", CASES)
def test_lint_reports_edges_that_no_walk_takes_also_when_counting_was_cut_short(case: str) -> None:
    nodes, closed = CASES[case]
    found = analyse(behind_a_knot(*nodes, variables=[PLAN]), effort=2_000)
    assert (found.truncated, found.errors) == (True, ())
    never = {finding.where for finding in found.warnings if "is never taken" in finding.problem}
    assert never == {f"edge {source} → {target}" for source, target in closed}


def test_beyond_its_effort_nothing_is_said() -> None:
    nodes, closed = CASES["a fact that was decided before"]
    graph = Graph(behind_a_knot(*nodes, variables=[PLAN]))
    assert closed_edges(graph) == closed
    assert closed_edges(graph, effort=20) == frozenset()
