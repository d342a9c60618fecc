"""``python -m bench.protocol [paper] [gate] [--seed N]``: whole evaluations on the cluster that `make demo` left running.

Real operator, kubelet and vLLM; the hosted models are stand-ins in this process. Prints tables, then a line of JSON; leaves the
reports in out/. At the end, and after Ctrl-C or SIGTERM, agent and release are as they were.
"""

import argparse
import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.protocol import cluster
from bench.protocol.checks import problems
from bench.protocol.plan import PROTOCOLS, Endpoints, Json, Protocol
from bench.protocol.tables import Measured, lines

from subterra_cli.cluster import ClusterAccessError, ClusterTarget, ResourceReader
from subterra_cluster.config import NODE_IP
from subterra_demo.steps import KUBECONFIG, NAMESPACE, ROOT, DemoCluster, StepError, tools_on_path
from subterra_testkit.runs.evaluation_runs import FaultlessProvider
from subterra_testkit.runs.generation_inputs import example
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

OUT = ROOT / "out"
PORTS = (18431, 18432)
"""Fixed, because a run's name depends on its models' addresses."""


class Models:
    """Stand-ins for all hosted models, and the calls they received."""

    def __init__(self, stack: ExitStack) -> None:
        company = FaultlessProvider(example("travel"))
        self._apis = [
            stack.enter_context(fake_llm_api(FakeLLMApi(answer=company, input_tokens=None), NODE_IP, port)) for port in PORTS
        ]
        self.endpoints = Endpoints(*(api.url for api in self._apis))

    def paid_at(self, since: float) -> list[float]:
        """Times of the responses since ``since``, by the monotonic clock."""
        return sorted(at for api in self._apis for at in [*api.paid_at] if at >= since)

    def progress(self, since: float) -> str:
        """Number of calls so far, as text."""
        return f"{len(self.paid_at(since)):,} calls in {time.monotonic() - since:.0f} s"


def main() -> int:
    """0 if every requested protocol ran to a verdict and nothing is missing."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        tools_on_path()
        found = _measure([PROTOCOLS[name] for name in arguments.protocols or PROTOCOLS], arguments.seed)
    except (StepError, ClusterAccessError, cluster.ProtocolError) as error:
        cluster.log(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    cluster.log("\n".join(lines(found)))
    cluster.log(json.dumps({each.protocol: each.figures() for each in found}))
    return 0


def _measure(protocols: list[Protocol], seed: int | None) -> list[Measured]:
    if not KUBECONFIG.exists():
        raise cluster.ProtocolError("no cluster is running; run `make demo` first")
    demo = DemoCluster()
    reader = ResourceReader(ClusterTarget(NAMESPACE, demo.kubeconfig))
    cluster.now_serving(reader)
    with ExitStack() as stack:
        models = Models(stack)
        stack.enter_context(cluster.release(demo, reader, models.endpoints))
        spec = stack.enter_context(cluster.kept(demo, reader))
        return [_one(demo, reader, protocol, models, spec, seed) for protocol in protocols]


def _one(demo: DemoCluster, reader: ResourceReader, protocol: Protocol, models: Models, spec: Json, seed: int | None) -> Measured:
    began = time.monotonic()
    name = cluster.begin(demo, reader, spec, protocol.evaluation(models.endpoints), seed)
    cluster.log(f"{protocol.name}: run {name}")
    cluster.wait(demo, reader, name, lambda: models.progress(began))
    took, calls = time.monotonic() - began, models.paid_at(began)
    outcome = cluster.collect(demo, reader, name)
    _keep(OUT, protocol.name, outcome.page, outcome.report)
    if missing := problems(protocol, outcome, len(calls)):
        raise cluster.ProtocolError(f"{protocol.name}, run {name}: " + "\n".join(missing))
    return Measured(protocol.name, name, outcome, took, calls[-1] - calls[0], len(calls))


def _keep(folder: Path, name: str, page: str, report: Json) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"protocol-{name}.html").write_text(page, encoding="utf-8")
    (folder / f"protocol-{name}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    cluster.log(f"report: {(folder / f'protocol-{name}.html').relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.protocol", description=__doc__)
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=f"{' or '.join(PROTOCOLS)}; default: both")
    parser.add_argument("--seed", type=int, help="of the scenarios; a new seed repeats an evaluation that exists already")
    arguments = parser.parse_args()
    if unknown := set(arguments.protocols) - set(PROTOCOLS):
        parser.error(f"unknown protocol {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
