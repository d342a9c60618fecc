"""JobSet for tests: its CRD and its controller. ``python -m tests.tools.jobset`` gets the CRD, with ``controller`` both.

The controller is built in about four minutes of a core, the CRD is a file of the same Go module.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests import programs
from tests.tools import controllers

SOURCES = Path(__file__).parent
PACKAGE = "sigs.k8s.io/jobset"
CRD = programs.ModuleCrd(SOURCES, PACKAGE, "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml")
SETTINGS = {"apiVersion": "config.jobset.x-k8s.io/v1alpha1", "kind": "Configuration"}
REVIEWED = [controllers.Reviewed("jobset.x-k8s.io", "v1alpha2", "jobsets")]


def controller_path(cache: Path) -> Path:
    """Where the controller is, or will be."""
    return programs.path_of(SOURCES, cache)


def running_controller(program: Path, kubeconfig: Path, folder: Path) -> AbstractContextManager[list[dict[str, Any]]]:
    """Runs the controller until the end of the block; gives the configurations of its webhooks, for the API server."""
    return controllers.running(program, SETTINGS, kubeconfig, folder, REVIEWED)
