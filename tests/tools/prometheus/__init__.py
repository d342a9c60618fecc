"""Prometheus and its promtool for tests: rules are fired, queries executed. ``python -m tests.tools.prometheus`` builds them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests import programs

from subterra_core.monitoring.generated_files import CHART_FILES
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.free_port import free_port

SOURCES = Path(__file__).parent
MODULE = "github.com/prometheus/prometheus"
PROGRAMS = {"promtool": f"{MODULE}/cmd/promtool", "prometheus": f"{MODULE}/cmd/prometheus"}
TAGS = ("remove_all_sd", "netgo")
"""Without the SDKs of all clouds for service discovery."""


def path_of(program: str, cache: Path) -> Path:
    """Where promtool or prometheus is, or will be."""
    return programs.path_of(SOURCES, cache, program)


@contextmanager
def scraping(program: Path, folder: Path, jobs: Sequence[dict[str, Any]], seconds: int) -> Iterator[str]:
    """The address of a server that has our rules and scrapes these jobs at that interval. Its data and log are in `folder`."""
    settings = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    rules = [str(ROOT / CHART_FILES / "rules.yaml")]
    configuration = {"global": settings, "rule_files": rules, "scrape_configs": [*jobs]}
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    options = [f"--config.file={folder / 'config.yaml'}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen([program, *options], stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
