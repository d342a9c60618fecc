"""A thousand finished agents and a hundred in flight: ``python -m bench.scale [--finished N] [--in-flight N] [--idle SECONDS]``.

The last line of standard output is the result as JSON. See bench/README.md for what the figures mean.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from bench.scale.fleet import members
from bench.scale.measure import Operator, end, quantile, requests
from bench.scale.plant import answering_pods, plant, say

from subterra_cluster.control_plane import ControlPlane
from subterra_operator.kube.client import Api


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def measure(directory: Path, plane: ControlPlane, audit: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Plants the fleet, lets an operator settle it, then measures a second one from its start on."""
    os.environ["KUBECONFIG"] = str(plane.kubeconfig)
    api, port = Api(), free_port()
    await plant(api, members(arguments.finished, arguments.in_flight))
    await api.close()
    resources = 3 * (arguments.finished + arguments.in_flight)
    async with answering_pods():
        first = Operator.start(directory, plane.kubeconfig, port)
        say(f"settled by a first operator after {await first.steady(resources):.1f} s")
        first.stop()
        return await observed(Operator.start(directory, plane.kubeconfig, port), resources, audit, arguments.idle)


async def observed(operator: Operator, resources: int, audit: Path, idle: float) -> dict[str, float]:
    """The figures of a restarted operator, and of its rest."""
    begun = end(audit)
    steady = await operator.steady(resources)
    restart = requests(audit, begun)
    say(f"steady {steady:.1f} s after a restart: {dict(restart.verbs)}, writes {dict(restart.writes)}")
    say("memory now and at most: {:.0f} and {:.0f} MiB; resting for {:.0f} s".format(*operator.memory(), idle))
    offset, cpu = end(audit), operator.cpu_seconds()
    await asyncio.sleep(idle)
    rest, busy = requests(audit, offset), operator.cpu_seconds() - cpu
    (rss, peak), samples = operator.memory(), await operator.metrics()
    operator.stop()
    say(f"at rest: {dict(rest.verbs)}, writes {dict(rest.writes)}, {100 * busy / idle:.1f} % of a core")
    return {
        "rss_mib": round(rss), "rss_peak_mib": round(peak), "restart_seconds": round(steady, 1),
        "idle_requests_per_minute": round(rest.total * 60 / idle, 1), "idle_cpu_percent": round(100 * busy / idle, 1),
        "reconcile_p99_ms": round(1000 * quantile(samples["subterra_reconcile_seconds_bucket"], 0.99)),
        "fights": sum(restart.writes.values()) + sum(rest.writes.values()),
    }  # fmt: skip


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--finished", type=int, default=1000, help="agents whose run is finished and that are served")
    parser.add_argument("--in-flight", type=int, default=100, help="agents whose first run trains")
    parser.add_argument("--idle", type=float, default=660, help="seconds of rest; two resyncs fit into the default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="subterra-bench-") as folder:
        directory = Path(folder)
        audit = directory / "audit.log"
        with ControlPlane(directory / "plane", audit=audit) as plane:
            figures = asyncio.run(measure(directory, plane, audit, arguments))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
