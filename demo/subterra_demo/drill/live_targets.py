"""Keeps the targets of a Prometheus in line with the cluster's pods, as the chart's monitors do."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from subterra_cli.cluster import ClusterAccessError, ClusterTarget, ResourceReader
from subterra_demo.scraped_cluster import scrape_targets
from subterra_demo.steps import NAMESPACE, SYSTEM_NAMESPACE, DemoCluster

JOBS = ("operator", "agents")
SECONDS = 2.0
"""Between two looks at the pods."""


def jobs(folder: Path) -> list[dict[str, Any]]:
    """Prometheus' jobs, whose targets are read from files in ``folder``."""
    return [
        {"job_name": job, "honor_labels": True, "file_sd_configs": [{"files": [str(_file(folder, job))], "refresh_interval": "1s"}]}
        for job in JOBS
    ]


@contextmanager
def followed(cluster: DemoCluster, folder: Path) -> Iterator[None]:
    """Writes the files, and goes on while the context lasts. Raises ClusterAccessError if pods cannot be listed at first."""
    targets = [ClusterTarget(name, cluster.kubeconfig, cluster.context) for name in (SYSTEM_NAMESPACE, NAMESPACE)]
    readers = [ResourceReader(target) for target in targets]
    write(folder, _pods(readers))
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(SECONDS):
            try:
                write(folder, _pods(readers))
            except ClusterAccessError:  # the API server is busy: the targets stay as they were
                continue

    thread = threading.Thread(target=follow, name="targets", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _pods(readers: Sequence[ResourceReader]) -> list[dict[str, Any]]:
    return [pod for reader in readers for pod in reader.pods("")]


def write(folder: Path, found: list[dict[str, Any]]) -> None:
    """Writes the targets that these pods are."""
    targets = scrape_targets(found)
    for job in JOBS:
        part = _file(folder, job).with_suffix(".part")
        part.write_text(json.dumps(targets.get(job, [])))
        part.rename(_file(folder, job))


def _file(folder: Path, job: str) -> Path:
    return folder / f"targets-{job}.json"
