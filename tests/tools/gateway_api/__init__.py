"""The Gateway API's CRD of HTTPRoutes for tests: ``python -m tests.tools.gateway_api`` copies it out of the Go module."""

import json
import shutil
import subprocess
from pathlib import Path

from tests import programs

from subterra_cluster.binaries import find_go, go_version_needed

SOURCES = Path(__file__).parent
PACKAGE = "sigs.k8s.io/gateway-api"


def crd_path(cache: Path) -> Path:
    """Where the CRD is, or will be."""
    return programs.path_of(SOURCES, cache).with_suffix(".crd.yaml")


def ensure_crd(cache: Path) -> None:
    """Copies the CRD out of the Go module, which is downloaded if need be."""
    if crd_path(cache).exists():
        return
    go = find_go(cache, go_version_needed((SOURCES / "go.mod").read_text()))
    found = subprocess.run([go, "mod", "download", "-json", PACKAGE], cwd=SOURCES, capture_output=True, check=True)
    folder = Path(json.loads(found.stdout)["Dir"], "config/crd/standard")
    shutil.copyfile(folder / "gateway.networking.k8s.io_httproutes.yaml", crd_path(cache))
