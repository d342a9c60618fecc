"""Our few algorithms on directed graphs find what those of networkx find."""

import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra_core.procedure.counting.digraph import Edges, components, distances, dominators, reversed_edges

LONG = 2_000


def some_graph(seed: int) -> Edges:
    """Up to 14 nodes, sparse or dense, with loops, edges of a node to itself, and nodes that nothing leads to."""
    rng = random.Random(seed)
    names = [f"n{number}" for number in range(rng.randint(1, 14))]
    share = rng.choice((0.05, 0.1, 0.2, 0.5))
    return {name: [other for other in rng.sample(names, len(names)) if rng.random() < share] for name in names}


def as_networkx(edges: Edges) -> "nx.DiGraph[str]":
    found: nx.DiGraph[str] = nx.DiGraph()
    found.add_nodes_from(edges)
    found.add_edges_from((node, target) for node, targets in edges.items() for target in targets)
    return found


@settings(max_examples=300)
@given(st.integers(0, 1_000_000))
def test_the_components_are_those_of_networkx_each_before_those_it_leads_to(seed: int) -> None:
    edges = some_graph(seed)
    found = components(edges)
    place = {node: number for number, members in enumerate(found) for node in members}
    assert sorted(map(sorted, found)) == sorted(map(sorted, nx.strongly_connected_components(as_networkx(edges))))
    assert all(place[node] <= place[target] for node, targets in edges.items() for target in targets)


@settings(max_examples=300)
@given(st.integers(0, 1_000_000))
def test_the_dominators_are_those_of_networkx(seed: int) -> None:
    edges = some_graph(seed)
    tree = {node: above for node, above in nx.immediate_dominators(as_networkx(edges), "n0").items() if above not in (None, node)}

    def chain(node: str) -> set[str]:
        return {node} | (chain(tree[node]) if node in tree else set())

    assert dominators(edges, "n0") == {node: chain(node) for node in distances(edges, ["n0"])}


@settings(max_examples=300)
@given(st.integers(0, 1_000_000))
def test_the_distances_are_those_of_networkx_from_the_nearest_start(seed: int) -> None:
    edges = some_graph(seed)
    starts = random.Random(seed).sample(sorted(edges), min(2, len(edges)))
    for drawn in (edges, reversed_edges(edges)):
        assert distances(drawn, starts) == nx.multi_source_dijkstra_path_length(as_networkx(drawn), set(starts))


@pytest.mark.parametrize("back", [(), ("n0",)], ids=["chain", "loop"])
def test_a_long_chain_needs_no_deep_recursion(back: tuple[str, ...]) -> None:
    edges = {f"n{number}": [f"n{number + 1}"] for number in range(LONG - 1)} | {f"n{LONG - 1}": list(back)}
    assert len(components(edges)) == (1 if back else LONG)
    assert len(dominators(edges, "n0")[f"n{LONG - 1}"]) == LONG
    assert distances(edges, ["n0"])[f"n{LONG - 1}"] == LONG - 1
