"""How much of the procedure the dataset shows: counts per node, edge, two edges in a row, terminal and value. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1.procedure import Variable
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.path_space import Run, Ways, runs_of
from subterra_jobs.generate.plan.plan import FLOOR, Slot, shares


@dataclass(frozen=True)
class Coverage:
    """How often each run of nodes is trained on, be it never: all nodes and edges, and the pairs of edges that a path can take."""

    conversations: int
    counts: dict[Run, int]
    impossible: frozenset[Run]
    """Nodes and edges that no path can take."""
    terminals: dict[str, int]
    shares: dict[str, float]
    """What each terminal should have."""
    values: dict[str, dict[str, Any]]

    def enough(self, length: int) -> tuple[int, int]:
        """How many of the runs of so many nodes are trained on often enough, and how many there are."""
        counts = [count for run, count in self.counts.items() if len(run) == length]
        return sum(count >= FLOOR for count in counts), len(counts)

    @property
    def rarest(self) -> tuple[str, float]:
        """The terminal that ends the fewest conversations, and its share of them."""
        ending = min(self.terminals, key=lambda each: (self.terminals[each], each))
        return ending, self.terminals[ending] / max(1, self.conversations)

    @property
    def message(self) -> str:
        """The report in a sentence."""
        (edges, all_edges), (pairs, all_pairs) = self.enough(2), self.enough(3)
        ending, share = self.rarest
        return (
            f"{edges} of {all_edges} edges and {pairs} of {all_pairs} pairs of consecutive edges at least {FLOOR} times, "
            f"rarest ending {ending} {share:.1%}"
        )

    def dump(self) -> dict[str, Any]:
        """What goes into ``coverage.json``."""
        ordered = sorted(self.counts)
        return {
            "floor": FLOOR,
            "nodes": {run[0]: self.counts[run] for run in ordered if len(run) == 1},
            "edges": [self._row(run) for run in ordered if len(run) == 2],
            "pairs": [self._row(run) for run in ordered if len(run) == 3],
            "terminals": {each: {"count": count, "leastShare": self.shares[each]} for each, count in self.terminals.items()},
            "variables": self.values,
        }

    def _row(self, run: Run) -> dict[str, Any]:
        row = {"nodes": run, "count": self.counts[run]}
        return row | ({"impossible": True} if run in self.impossible else {})


def cover(graph: Graph, slots: Iterable[Slot]) -> Coverage:
    """The coverage of a dataset; conversations that are held out do not count."""
    trained = [slot for slot in slots if not slot.held_out]
    counts = Counter(run for slot in trained for run in runs_of(slot.path))
    nodes = graph.spec.nodes
    every = {(node.id,) for node in nodes} | {(node.id, edge.to) for node in nodes for edge in node.next}
    possible = Ways(graph).runs.keys() | counts.keys()
    endings = Counter(slot.path[-1] for slot in trained)
    return Coverage(
        len(trained), {run: counts[run] for run in every | possible}, frozenset(every - possible),
        {node.id: endings[node.id] for node in nodes if not node.next}, shares(graph.spec),
        {variable.name: _values(variable, trained) for variable in graph.spec.variables},
    )  # fmt: skip


def _values(variable: Variable, slots: Sequence[Slot]) -> dict[str, Any]:
    """Each value where the list is closed; where it is open, how many different ones there are."""
    found = Counter(slot.values[variable.name] for slot in slots)
    if variable.type == "string" and not variable.open:
        return {"distinct": len(found), "counts": {value: found[value] for value in variable.values}}
    return {"distinct": len(found)}
