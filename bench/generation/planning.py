"""Coverage of plans compared with as many random walks on the same graphs, and the cost of planning."""

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.generate.plan.path_space import NodeNgram, PathSpace, ngrams_of
from subterra_jobs.generate.plan.plan import FLOOR, plan_conversations
from subterra_testkit.repository import ROOT

EXAMPLES = ("travel", "zoom", "insurance")
SIZES = (50, 100, 200, 500, 1000)
AT = 200
MANY = 10_000
HEAD = """\
| procedure | conversations | pairs at least 3 times: plan / random walk | rarest ending: plan / random walk |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Mix:
    """Balance of a set of conversations: share of edge pairs that occur `FLOOR` times, and share of the rarest ending."""

    pairs: float
    rarest: float


def example(name: str) -> Graph:
    """Graph of an example procedure."""
    file = ROOT / "examples" / name / "procedure.yaml"
    return Graph(ProcedureSpec.model_validate(yaml.safe_load(file.read_text())["spec"]))


def settings(conversations: int) -> Generation:
    """Generation settings with the defaults for a pretrained model."""
    return Generation(teacher=Provider(), conversations=conversations, seeds=(42,), held_out_percent=10)


def planned(graph: Graph, count: int) -> Mix:
    """The mix of a plan's training conversations."""
    return _mix(graph, [planned.path for planned in plan_conversations(graph.spec, settings(count)) if not planned.held_out])


def walked(graph: Graph, count: int) -> Mix:
    """The mix of ``count`` random walks, with every open edge equally likely."""
    rng = random.Random(42)
    return _mix(graph, [graph.walk(lambda _, edges: rng.choice(edges)) for _ in range(count)])


def smallest(graph: Graph) -> int:
    """The smallest number of conversations from which every pair is covered, among plans of up to `AT`."""
    failing = [count for count in range(20, AT + 1) if planned(graph, count).pairs < 1]
    return max(failing, default=19) + 1


def seconds(graph: Graph) -> float:
    """CPU seconds for planning 10,000 conversations; other load on the machine does not count."""
    started = time.process_time()
    plan_conversations(graph.spec, settings(MANY))
    return time.process_time() - started


def measure() -> dict[str, Any]:
    """Prints the table, and returns the figures."""
    graphs = {name: example(name) for name in EXAMPLES}
    sys.stdout.write(HEAD)
    mixes = {(name, count): (planned(graph, count), walked(graph, count)) for name, graph in graphs.items() for count in SIZES}
    for (name, count), (plans, walks) in mixes.items():
        sys.stdout.write(
            f"| {name} | {count:,} | {plans.pairs:.0%} / {walks.pairs:.0%} | {plans.rarest:.1%} / {walks.rarest:.1%} |\n"
        )
    return {
        "edge_pair_coverage_at_200": {name: mixes[name, AT][0].pairs for name in EXAMPLES},
        "rarest_terminal_share": {name: round(mixes[name, AT][0].rarest, 3) for name in EXAMPLES},
        "random_walk_rarest_terminal_share": {name: round(mixes[name, AT][1].rarest, 3) for name in EXAMPLES},
        "all_pairs_from": {name: smallest(graph) for name, graph in graphs.items()},
        "plan_seconds_10k": {name: round(seconds(graph), 1) for name, graph in graphs.items()},
        "plan_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _mix(graph: Graph, paths: Sequence[Path]) -> Mix:
    counts: Counter[NodeNgram] = Counter(run for path in paths for run in ngrams_of(path))
    pairs = [run for run in PathSpace(graph).ngrams if len(run) == 3]
    endings = [counts[node.id,] for node in graph.spec.nodes if not node.next]
    return Mix(sum(counts[run] >= FLOOR for run in pairs) / len(pairs), min(endings) / len(paths))
