"""Prometheus and its promtool for tests: rules are fired, queries executed. ``python -m tests.tools.prometheus`` builds them."""

from pathlib import Path

from tests import programs

SOURCES = Path(__file__).parent
MODULE = "github.com/prometheus/prometheus"
PROGRAMS = {"promtool": f"{MODULE}/cmd/promtool", "prometheus": f"{MODULE}/cmd/prometheus"}
TAGS = ("remove_all_sd", "netgo")
"""Without the SDKs of all clouds for service discovery."""


def path_of(program: str, cache: Path) -> Path:
    """Where promtool or prometheus is, or will be."""
    return programs.path_of(SOURCES, cache, program)
