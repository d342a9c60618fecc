"""``python -m bench.scale``: the operator with a thousand finished agents and a hundred in flight,
at rest, and while one namespace is full of procedures that are expensive to check.

The last line of standard output is the result as JSON; bench/README.md explains the figures.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from bench.scale.fleet import make_fleet
from bench.scale.measure import Operator, log_end, quantile, requests_since
from bench.scale.seed_cluster import log, seed_cluster, serve_pod_endpoints
from bench.scale.starvation import measure_starvation

from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import KubernetesApi


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(directory: Path, plane: ControlPlane, audit: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Creates the fleet, lets an operator settle it, then measures a second operator from its start."""
    os.environ["KUBECONFIG"] = str(plane.kubeconfig)
    api, port = KubernetesApi(), free_port()
    resources = 3 * (arguments.finished + arguments.in_flight)
    async with serve_pod_endpoints():
        await seed_cluster(api, make_fleet(arguments.finished, arguments.in_flight))
        await api.close()
        first = Operator.start(directory, plane.kubeconfig, port)
        try:
            log(f"settled by a first operator after {await first.steady(resources):.1f} s")
        finally:
            first.stop()
        operator = Operator.start(directory, plane.kubeconfig, port)
        try:
            return await measure_operator(operator, resources, audit, arguments)
        finally:
            operator.stop()


async def measure_operator(operator: Operator, resources: int, audit: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Figures of an operator from its start: steady, at rest, and with a flood of expensive procedures."""
    figures = await measure_restart(operator, resources, audit, arguments.idle)
    busy = figures["idle_cpu_percent"] / 100 * 60_000  # ms in a minute
    figures["idle_cpu_ms_per_agent_minute"] = round(busy / (arguments.finished + arguments.in_flight), 2)
    log(f"so far: {json.dumps(figures)}")
    if arguments.worst:
        api = KubernetesApi()
        figures |= await measure_starvation(api, operator, arguments.worst)
        await api.close()
    return figures


async def measure_restart(operator: Operator, resources: int, audit: Path, idle: float) -> dict[str, float]:
    """Figures of a restarted operator, first until it is steady and then idle."""
    start = log_end(audit)
    steady = await operator.steady(resources)
    restart = requests_since(audit, start)
    log(f"steady {steady:.1f} s after a restart: {dict(restart.verbs)}, writes {dict(restart.writes)}")
    log("memory now and peak: {:.0f} and {:.0f} MiB; idle for {:.0f} s".format(*operator.memory(), idle))
    offset, cpu = log_end(audit), operator.cpu_seconds()
    await asyncio.sleep(idle)
    rest, busy = requests_since(audit, offset), operator.cpu_seconds() - cpu
    (rss, peak), samples = operator.memory(), await operator.metrics()
    log(f"idle: {dict(rest.verbs)}, writes {dict(rest.writes)}, {100 * busy / idle:.2f} % of a core")
    return {
        "rss_mib": round(rss),
        "rss_peak_mib": round(peak),
        "restart_seconds": round(steady, 1),
        "idle_requests_per_minute": round(rest.total * 60 / idle, 1),
        "idle_status_writes": sum(count for target, count in rest.writes.items() if target.endswith("/status")),
        "idle_cpu_percent": round(100 * busy / idle, 2),
        "reconcile_p99_ms": round(1000 * quantile(samples["subterra_reconcile_seconds_bucket"], 0.99)),
        "fights": sum(restart.writes.values()) + sum(rest.writes.values()),
    }


def main() -> None:
    """Parses the arguments and prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--finished", type=int, default=1000, help="agents with a finished run that are served")
    parser.add_argument("--in-flight", type=int, default=100, help="agents whose first run is training")
    parser.add_argument("--worst", type=int, default=200, help="expensive procedures in one namespace at the end; 0 for none")
    parser.add_argument("--idle", type=float, default=660, help="idle seconds to measure; the default covers two resyncs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="subterra-bench-") as folder:
        directory = Path(folder)
        audit = directory / "audit.log"
        with ControlPlane(directory / "plane", audit=audit) as plane:
            figures = asyncio.run(measure(directory, plane, audit, arguments))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
