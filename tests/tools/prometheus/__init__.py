"""Prometheus and its promtool for tests: rules are fired, queries executed. ``python -m tests.tools.prometheus`` builds them."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests import programs

from subterra_core.monitoring.generated_files import CHART_FILES
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.local_server import free_port

SOURCES = Path(__file__).parent
MODULE = "github.com/prometheus/prometheus"
PROGRAMS = {"promtool": f"{MODULE}/cmd/promtool", "prometheus": f"{MODULE}/cmd/prometheus"}
TAGS = ("remove_all_sd", "netgo")
"""Without the SDKs of all clouds for service discovery."""
READY_SECONDS = 240.0
RULES = ROOT / CHART_FILES / "rules.yaml"


def path_of(program: str, cache: Path) -> Path:
    """Where promtool or prometheus is, or will be."""
    return programs.path_of(SOURCES, cache, program)


@contextmanager
def scraping(program: Path, folder: Path, jobs: Sequence[dict[str, Any]], seconds: int, rules: Path = RULES) -> Iterator[str]:
    """The address of a server that has our rules, or those of another file, and scrapes these jobs at that interval.

    Its data and log are in `folder`.
    It answers queries from the start: those that come before it is ready get 503 in plain text. Raises RuntimeError with its log
    if it ends or is not ready in time.
    """
    settings = {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"}
    configuration = {"global": settings, "rule_files": [str(rules)], "scrape_configs": [*jobs]}
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    options = [f"--config.file={folder / 'config.yaml'}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen([program, *options], stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        if not _ready(process, url):
            raise RuntimeError(
                f"Prometheus is not ready after {READY_SECONDS:.0f} s, or has ended: {(folder / 'log').read_text()[-2000:]}"
            )
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _ready(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).is_success:
                return True
        except httpx.TransportError:  # it does not listen yet
            pass
        time.sleep(0.1)
    return False
