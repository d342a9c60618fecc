"""Kueue for tests: its CRDs and its controller. ``python -m tests.tools.kueue`` gets them.

The controller is built in about nine minutes of a core, the CRDs are files of the same Go module.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests import programs
from tests.tools import controllers

SOURCES = Path(__file__).parent
MODULE = "sigs.k8s.io/kueue"
PACKAGE = f"{MODULE}/cmd/kueue"
GROUP, VERSION = "kueue.x-k8s.io", "v1beta2"
KINDS = {
    "AdmissionCheck": "admissionchecks",
    "ClusterQueue": "clusterqueues",
    "Cohort": "cohorts",
    "LocalQueue": "localqueues",
    "ResourceFlavor": "resourceflavors",
    "Workload": "workloads",
    "WorkloadPriorityClass": "workloadpriorityclasses",
}
"""Kinds that the controller watches as it is set here, and their plurals."""
CRDS = [
    programs.ModuleCrd(SOURCES, MODULE, f"config/components/crd/bases/{GROUP}_{plural}.yaml", f"kueue-{plural}")
    for plural in KINDS.values()
]
SETTINGS = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "integrations": {"frameworks": ["batch/job", "jobset.x-k8s.io/jobset"]},
    # Further kinds, and an API server of its own for what waits, which needs a certificate.
    "featureGates": {"MultiKueue": False, "TopologyAwareScheduling": False, "VisibilityOnDemand": False},
}
REVIEWED = [
    controllers.Reviewed("batch", "v1", "jobs"),
    controllers.Reviewed("jobset.x-k8s.io", "v1alpha2", "jobsets"),
    *(controllers.Reviewed(GROUP, VERSION, KINDS[kind]) for kind in ("ClusterQueue", "ResourceFlavor", "Workload")),
]


def controller_path(cache: Path) -> Path:
    """Where the controller is, or will be."""
    return programs.path_of(SOURCES, cache)


def running_controller(program: Path, kubeconfig: Path, folder: Path) -> AbstractContextManager[list[dict[str, Any]]]:
    """Runs the controller until the end of the block; gives the configurations of its webhooks, for the API server."""
    return controllers.running(program, SETTINGS, kubeconfig, folder, REVIEWED, _with_certificate_in_etc(folder))


def _with_certificate_in_etc(folder: Path) -> list[str | Path]:
    """Runs a program that sees the folder's certificate where Kueue wants one for its metrics, even if it serves none.

    That place, /etc/kueue/metrics/certs, is no setting; nothing is written to the machine's own /etc.
    """
    certificates = folder / "etc/kueue/metrics/certs"
    certificates.parent.mkdir(parents=True)
    certificates.symlink_to(folder)
    script = 'mount -t overlay overlay -o "lowerdir=$0:/etc" /etc && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, folder / "etc"]
