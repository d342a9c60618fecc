"""What plans cover, beside as many random walks on the same graphs, and what planning costs."""

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
from subterra_jobs.generate.plan.path_space import Run, Ways, runs_of
from subterra_jobs.generate.plan.plan import FLOOR, plan
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
    """How well conversations are mixed: share of the pairs of consecutive edges seen `FLOOR` times, and of the rarest ending."""

    pairs: float
    rarest: float


def example(name: str) -> Graph:
    """An example's procedure."""
    file = ROOT / "examples" / name / "procedure.yaml"
    return Graph(ProcedureSpec.model_validate(yaml.safe_load(file.read_text())["spec"]))


def settings(conversations: int) -> Generation:
    """The defaults for a pretrained model."""
    return Generation(teacher=Provider(), conversations=conversations, seeds=(42,), held_out_percent=10)


def planned(graph: Graph, count: int) -> Mix:
    """The mix of a plan's training conversations."""
    return _mix(graph, [slot.path for slot in plan(graph.spec, settings(count)) if not slot.held_out])


def walked(graph: Graph, count: int) -> Mix:
    """The mix of as many random walks, every open edge as likely as the others."""
    rng = random.Random(42)
    return _mix(graph, [graph.walk(lambda _, edges: rng.choice(edges)) for _ in range(count)])


def smallest(graph: Graph) -> int:
    """The number of conversations from which on every pair is covered, as far as plans up to 200 tell."""
    failing = [count for count in range(20, AT + 1) if planned(graph, count).pairs < 1]
    return max(failing, default=19) + 1


def seconds(graph: Graph) -> float:
    """Processor time of one core that 10,000 conversations take to be planned: other work on the machine does not count."""
    started = time.process_time()
    plan(graph.spec, settings(MANY))
    return time.process_time() - started


def figures() -> dict[str, Any]:
    """All of them; writes the table on the way."""
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
    counts: Counter[Run] = Counter(run for path in paths for run in runs_of(path))
    pairs = [run for run in Ways(graph).runs if len(run) == 3]
    endings = [counts[node.id,] for node in graph.spec.nodes if not node.next]
    return Mix(sum(counts[run] >= FLOOR for run in pairs) / len(pairs), min(endings) / len(paths))
