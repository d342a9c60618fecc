"""JobSet for tests: its CRD and its controller. ``python -m tests.tools.jobset`` gets the CRD, with ``controller`` both.

The controller is built in about four minutes of a core, the CRD is a file of the same Go module.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests import programs

from subterra_testkit.servers.admission_webhook import HOST, certificate_of

SOURCES = Path(__file__).parent
PACKAGE = "sigs.k8s.io/jobset"
CRD = programs.ModuleCrd(SOURCES, PACKAGE, "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml")
WEBHOOKS = {"Mutating": "mutate", "Validating": "validate"}
"""Kinds of JobSet's webhooks, and how their paths begin."""


def controller_path(cache: Path) -> Path:
    """Where the controller is, or will be."""
    return programs.path_of(SOURCES, cache)


@contextmanager
def running_controller(program: Path, kubeconfig: Path, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Runs the controller until the end of the block; gives the configurations of its webhooks, for the API server."""
    certificate, key = certificate_of(folder)
    shutil.copyfile(certificate, folder / "tls.crt")
    shutil.copyfile(key, folder / "tls.key")
    port, health = _free_port(), _free_port()
    settings = {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": HOST, "port": port, "certDir": str(folder)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": f"{HOST}:{health}"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    with (folder / "controller.log").open("wb") as log:
        command = [program, f"--config={folder / 'config.json'}"]
        process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_open(process, port, folder / "controller.log")
        yield [_webhook(kind, port, certificate.read_bytes()) for kind in WEBHOOKS]
    finally:
        process.terminate()
        process.wait(20)


def _webhook(kind: str, port: int, authority: bytes) -> dict[str, Any]:
    """The configuration by which the API server asks the controller about JobSets."""
    operations = ["CREATE"] if kind == "Mutating" else ["CREATE", "UPDATE"]
    path = f"{WEBHOOKS[kind]}-jobset-x-k8s-io-v1alpha2-jobset"
    resources = {"apiGroups": ["jobset.x-k8s.io"], "apiVersions": ["v1alpha2"], "resources": ["jobsets"]}
    asked = {
        "name": f"{kind.lower()}.jobsets.example.com",
        "clientConfig": {"url": f"https://{HOST}:{port}/{path}", "caBundle": base64.b64encode(authority).decode()},
        "rules": [{**resources, "operations": operations}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration"}
    return {**head, "metadata": {"name": "jobset"}, "webhooks": [asked]}


def _free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as taken:
        return int(taken.getsockname()[1])


def _wait_until_open(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        else:
            return
