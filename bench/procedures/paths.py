#!/usr/bin/env python3
"""How the time to lint and count paths grows with the number of nodes: a chain of loops, and a knot beyond exact counting."""

import sys
import time

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.lint.analyse import analyse

SIZES = (10, 30, 100, 300, 500, 1000)


def chain(size: int) -> list[Node]:
    """Questions in sequence that may each be repeated; the customer may leave at each."""
    nodes = [
        Node(id="done", role="agent", prompt="Say it is done.", outcome="success"),
        Node(id="left", role="agent", prompt="Say goodbye.", outcome="abandonment"),
    ]
    for number in reversed(range((size - 2) // 4)):
        after = f"ask{number + 1}" if number + 1 < (size - 2) // 4 else "done"
        nodes += [
            Node(id=f"ask{number}", role="agent", prompt="Ask.", next=(Edge(to=f"say{number}"),)),
            Node(
                id=f"say{number}",
                role="user",
                next=(
                    Edge(to=f"repeat{number}", when="Answers."),
                    Edge(to=f"ask{number}", when="Does not understand."),
                    Edge(to="left", when="Leaves."),
                ),
            ),
            Node(id=f"repeat{number}", role="agent", prompt="Repeat.", next=(Edge(to=f"nod{number}"),)),
            Node(id=f"nod{number}", role="user", next=(Edge(to=after),)),
        ]
    return nodes


def knot(size: int) -> list[Node]:
    """The chain with an edge from each question to a distant one: a single loop through everything."""
    nodes, count = chain(size), (size - 2) // 4

    def tied(node: Node) -> Node:
        number = int(node.id.removeprefix("say")) if node.id.startswith("say") else -1
        target = f"ask{(number * 37 + 1) % count}"
        if number < 0 or target in {edge.to for edge in node.next}:
            return node
        return node.model_copy(update={"next": (*node.next, Edge(to=target, when="Wants something else."))})

    return [tied(node) for node in nodes]


def measure(shape: str, size: int) -> str:
    """One row of the table. `model_copy` allows more nodes than a valid Procedure may have."""
    nodes = tuple({"chain": chain, "knot": knot}[shape](size))
    spec = ProcedureSpec(system_prompt="You help.", start="ask0", nodes=nodes[:2]).model_copy(update={"nodes": nodes})
    began = time.process_time()
    analysis = analyse(spec)
    seconds = time.process_time() - began
    turns = f"{analysis.min_turns} to {analysis.max_turns or 'more'}"
    return f"| {shape} | {len(nodes)} | {seconds:.2f} | {analysis.path_count} | {turns} |"


if __name__ == "__main__":
    rows = [measure(shape, size) for shape in ("chain", "knot") for size in SIZES]
    sys.stdout.write("\n".join(["| shape | nodes | CPU s | paths | turns |", "|---|---|---|---|---|", *rows]) + "\n")
