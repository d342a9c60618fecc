"""Counting tells the number of paths and their turns without listing them, and says when it does not know."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.counting.path_count import count_paths
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import PLAN, agent, end, procedure, user


def naive(spec: ProcedureSpec, path: Path = (), plans: frozenset[str] = frozenset(PLAN["values"])) -> Iterator[Path]:
    """All paths by the definition: every rule is looked up in the path so far."""
    path = path or (spec.start,)
    nodes = {node.id: node for node in spec.nodes}
    node, visits = nodes[path[-1]], Counter(path)
    if not node.next:
        yield path
    hops = list(pairwise(path))
    for edge in node.next:
        left = plans & (set(edge.values) or plans - {value for each in node.next for value in each.values}) if node.fact else plans
        last = {source: target for source, target in hops if len(nodes[source].next) > 1}
        guarded = all(last.get(guard.hub) in guard.took for guard in edge.guards)
        if visits[edge.to] < nodes[edge.to].max_visits and guarded and left:
            yield from naive(spec, (*path, edge.to), left)
            if node.decided_by == "history":
                return


def tangled(seed: int, size: int = 5) -> ProcedureSpec:
    """A random procedure with loops, guards, facts and history; every node has a way to the end."""
    rng = random.Random(seed)
    names = ["hello", *(f"n{number}" for number in range(size))]
    hubs = {name: [*rng.sample(names, rng.randint(0, 2)), "bye"] for name in names}

    def edge(to: str) -> dict[str, Any]:
        hub = rng.choice(names)
        guard = [{"hub": hub, "took": rng.sample(hubs[hub], 1)}] if to != "bye" and rng.random() < 0.3 else []
        return {"to": to, "guards": guard}

    nodes = []
    for name, targets in hubs.items():
        kind = rng.choice(["customer", "fact", "history"]) if len(targets) > 1 else "customer"
        ways = [edge(to) for to in targets]
        if kind == "fact":
            ways[0]["values"] = rng.sample(PLAN["values"], rng.randint(1, 2))
            ways[1]["values"] = [value for value in PLAN["values"] if value not in ways[0]["values"]][:1]
        more = {"decidedBy": kind} | ({"fact": "plan"} if kind == "fact" else {})
        nodes.append(user(name, *ways, maxVisits=rng.randint(1, 2), **more))
    return procedure(*nodes, end(), variables=[PLAN])


@settings(max_examples=200)
@given(st.integers(0, 100_000))
def test_the_count_is_the_number_of_paths_by_definition(seed: int) -> None:
    spec = tangled(seed)
    every = list(naive(spec))
    assert set(Graph(spec).paths()) == set(every)
    found, lengths = count_paths(Graph(spec)), [len(path) for path in every]
    assert (found.paths, found.min_turns, found.max_turns) == (len(every), min(lengths, default=None), max(lengths, default=None))


def test_every_node_on_a_path_is_a_turn_also_when_the_agent_speaks_twice() -> None:
    found = analyse(procedure(agent("hello", "more"), agent("more", "ask"), user("ask", "bye"), end()))
    assert (found.findings, found.path_count, found.min_turns, found.max_turns) == ((), "1", 4, 4)


def knot(size: int) -> ProcedureSpec:
    """Everything leads everywhere: no program counts that exactly."""
    names = ["hello", *(f"n{number}" for number in range(size))]
    return procedure(*(user(name, *(other for other in names if other != name), "bye") for name in names), end())


def test_too_large_a_count_is_told_as_more_than_what_was_found() -> None:
    found = analyse(knot(9), effort=500)
    assert found.path_count.startswith("more than ")
    assert 0 < found.paths < analyse(knot(9), effort=20_000).paths
    assert (found.min_turns, found.max_turns) == (2, None)


def test_effort_bounds_time() -> None:
    began = time.process_time()
    assert count_paths(Graph(knot(15)), effort=2_000).truncated
    assert time.process_time() - began < 5


def test_a_chain_of_a_hundred_loops_is_counted_exactly() -> None:
    pairs = [
        node
        for number in range(100)
        for node in (agent(f"ask{number}", f"say{number}"), user(f"say{number}", f"ask{number}", f"ask{number + 1}"))
    ]
    found = analyse(procedure(*pairs, end("ask100"), start="ask0"))
    assert (found.paths, found.min_turns, found.max_turns) == (2**100, 201, 401)
    assert found.path_count == "more than 10^30"
