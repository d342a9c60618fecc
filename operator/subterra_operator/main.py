"""The operator process: ``python -m subterra_operator [--settings FILE]``, in a pod or anywhere with KUBECONFIG set."""

import argparse
import asyncio
import ctypes
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from subterra_operator.controller import Clock, Controller, utc_now
from subterra_operator.framework.census import Census
from subterra_operator.framework.supervisor import live_once, supervise
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.kube.side_by_side import until_first_ends
from subterra_operator.monitoring import metrics
from subterra_operator.monitoring.health import Health, serving
from subterra_operator.settings import Settings, load_settings

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MALLOC_OPTIONS = {-8: 1, -3: 128 * 1024, -1: 128 * 1024}
"""By their numbers in glibc's malloc.h: M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD. The sizes are glibc's own, which it would
raise by itself otherwise.
"""


async def run_operator(settings: Settings, stop: asyncio.Event, clock: Clock = utc_now) -> None:
    """Runs the operator until ``stop`` is set; SIGTERM and SIGINT set it. Raises what kubelet must restart the process for.

    ``clock`` is the time that deadlines are decided by.
    """
    lease_api = KubernetesApi(on_answer=metrics.record_api_request)
    lease = LeaderLease(lease_api, settings.lease, settings.namespace)
    metrics.LEADER.set_function(lambda: float(lease.holds))
    api = KubernetesApi(lambda: lease.holds or _refuse(), metrics.record_api_request)
    heartbeat = Heartbeat(api, settings.namespace, metrics.WATCH_SILENCE.set, lambda: lease.holds)
    health = Health(heartbeat)

    async def live() -> None:
        health.controller = controller = Controller(settings, api, heartbeat, lease, clock)
        try:
            await live_once(controller, Census(controller, api), lambda: _stop_on_signals(stop))
        finally:
            await lease.release()  # an operator whose watches work may go on

    with serving(health, settings.port), _own_signals(stop):
        try:
            await until_first_ends(supervise(live), heartbeat.run(), health.run(), stop.wait())
        finally:
            await api.close()
            await lease_api.close()


def _refuse() -> bool:
    """Counts a write that is not sent."""
    metrics.REFUSED_WRITES.inc()
    return False


def _stop_on_signals(stop: asyncio.Event) -> None:
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


@contextmanager
def _own_signals(stop: asyncio.Event) -> Iterator[None]:
    """Sets ``stop`` on signals; puts back the earlier handlers at the end."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _stop_on_signals(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, handler)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="subterra_operator", description=__doc__)
    parser.add_argument(
        "--settings",
        type=Path,
        default=os.environ.get("SUBTERRA_SETTINGS"),
        help="YAML file with the operator's settings (default: built-in defaults)",
    )
    parser.add_argument("--verbose", action="store_true", help="log at level DEBUG")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # else a line for each event
    _return_freed_memory()
    asyncio.run(_run(load_settings(Path(arguments.settings) if arguments.settings else None)))


def _return_freed_memory() -> None:
    """Has glibc give back what long lists took: with 440 agents the operator is 10 MiB smaller. Other libraries do as they do."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in _MALLOC_OPTIONS.items():
            library.mallopt(option, value)


async def _run(settings: Settings) -> None:
    await run_operator(settings, asyncio.Event())
