"""The unfolded procedure: exact chances, and paths that take what they are asked to take."""

import random
from collections import Counter

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import sample_path
from subterra_jobs.generate.plan.path_space import PathSpace, ngrams_of
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way
from subterra_testkit.runs.generation_inputs import example

EXAMPLES = ("travel", "zoom", "insurance")


def tangled(nodes: int) -> ProcedureSpec:
    """A loop that ties all its nodes together: far more steps than can be unfolded."""
    ids = [f"n{number}" for number in range(nodes)]
    near = {node: [ids[(place + step) % nodes] for step in range(1, 19)] for place, node in enumerate(ids)}
    return procedure(*(user(node, *near[node], "bye") for node in ids), end(), start="n0")


def every_run(graph: Graph) -> set[tuple[str, ...]]:
    return {run for path in graph.paths() for run in ngrams_of(path)}


def test_a_path_has_its_nodes_edges_and_pairs_of_edges_as_runs() -> None:
    assert Counter(ngrams_of(("a", "b", "a", "b"))) == {
        ("a",): 2,
        ("b",): 2,
        ("a", "b"): 2,
        ("b", "a"): 1,
        ("a", "b", "a"): 1,
        ("b", "a", "b"): 1,
    }


@pytest.mark.parametrize("name", ["travel", "zoom"])
def test_exactly_the_runs_that_some_path_takes_are_possible(name: str) -> None:
    graph = Graph(example(name))
    assert set(PathSpace(graph).ngrams) == every_run(graph)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_chance_of_a_run_is_how_often_random_walks_take_it(name: str) -> None:
    graph, rng = Graph(example(name)), random.Random(1)
    chances = PathSpace(graph).ngrams
    seen = Counter(run for _ in range(3000) for run in ngrams_of(sample_path(graph, rng)))
    assert all(abs(seen[run] / 3000 - chance) < 0.05 for run, chance in chances.items())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_path_for_a_run_takes_it_and_can_be_walked(name: str) -> None:
    graph = Graph(example(name))
    space = PathSpace(graph)
    for run in space.ngrams:
        for number in range(3):
            path = space.path(run, "test", number)
            assert run in set(ngrams_of(path))
            walk(graph, path)


def walk(graph: Graph, path: Path) -> None:
    step = graph.begin()
    assert path[0] == step.node
    for target in path[1:]:
        step = graph.take(step, next(edge for edge in graph.open_edges(step) if edge.to == target))
    assert not graph.nodes[step.node].next


def test_guards_and_facts_make_runs_impossible() -> None:
    graph = Graph(
        procedure(
            agent("hello", "ask"),
            user("ask", "check", "leave"),
            user("leave", "check"),
            fact_hub("check", way("sell", "Free"), way("again")),
            agent("again", after("help", "ask", "check"), "sell"),
            end("sell"),
            end("help"),
            variables=[PLAN],
        )
    )
    runs = PathSpace(graph).ngrams
    assert set(runs) == every_run(graph)
    assert runs["check", "sell"] == pytest.approx(1 / 3)  # one of three values
    assert ("check", "again", "help") in runs


def test_of_a_procedure_that_is_too_tangled_a_part_is_unfolded_with_every_node_in_it() -> None:
    graph = Graph(tangled(40))
    space = PathSpace(graph, max_steps=3000)
    assert {run[0] for run in space.ngrams if len(run) == 1} == set(graph.nodes)
    walk(graph, space.path(("n39", "bye"), "test"))
