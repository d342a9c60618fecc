"""Controllers of other projects that run on this machine for tests, with the webhooks by which the API server asks them.

Those that are built with controller-runtime, as JobSet's and Kueue's are, share settings and the paths of their webhooks.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra_testkit.servers.admission_webhook import HOST, certificate_of
from subterra_testkit.servers.local_server import free_port

OPERATIONS = {"Mutating": ["CREATE"], "Validating": ["CREATE", "UPDATE"]}
"""Kinds of webhooks, and what they are asked about."""
PATHS = {"Mutating": "mutate", "Validating": "validate"}
"""How their paths begin."""
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Reviewed:
    """A resource about which a controller is asked before it is stored."""

    group: str
    version: str
    plural: str

    def path(self, kind: str) -> str:
        """The path of the webhook of a kind."""
        return f"{PATHS[kind]}-{self.group.replace('.', '-')}-{self.version}-{self.plural.removesuffix('s')}"


@contextmanager
def running(
    program: Path,
    settings: dict[str, Any],
    kubeconfig: Path,
    folder: Path,
    reviewed: Sequence[Reviewed],
    wrapper: Sequence[str | Path] = (),
) -> Iterator[list[dict[str, Any]]]:
    """Runs a controller until the end of the block; gives the configurations of its webhooks, for the API server.

    ``settings`` are its own, ``folder`` gets its certificate, its configuration and its log. ``wrapper``: a command that runs it.
    """
    certificate, key = certificate_of(folder)
    shutil.copyfile(certificate, folder / "tls.crt")
    shutil.copyfile(key, folder / "tls.key")
    port, log = free_port(), folder / "controller.log"
    (folder / "config.json").write_text(json.dumps(_common(port, folder) | settings))
    with log.open("wb") as output:
        command: list[str | Path] = [*wrapper, program, f"--config={folder / 'config.json'}"]
        process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}, stdout=output, stderr=output)
    try:
        _wait_until_open(process, port, log)
        client = {"url": f"https://{HOST}:{port}", "caBundle": base64.b64encode(certificate.read_bytes()).decode()}
        yield [_configuration(kind, program.name.partition("-")[0], client, reviewed) for kind in OPERATIONS]
    finally:
        process.terminate()
        process.wait(20)


def _common(port: int, folder: Path) -> dict[str, Any]:
    """The settings that all of them have: one of each kind, with our certificate, that measures nothing."""
    return {
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": HOST, "port": port, "certDir": str(folder)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": f"{HOST}:{free_port()}"},
    }


def _configuration(kind: str, name: str, client: dict[str, str], reviewed: Sequence[Reviewed]) -> dict[str, Any]:
    """By what the API server asks a controller about the objects that it reviews."""
    webhooks = [
        {
            "name": f"{kind.lower()}.{each.plural}.{name}.example.com",
            "clientConfig": client | {"url": f"{client['url']}/{each.path(kind)}"},
            "rules": [
                {
                    "apiGroups": [each.group],
                    "apiVersions": [each.version],
                    "resources": [each.plural],
                    "operations": OPERATIONS[kind],
                }
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail",
        }
        for each in reviewed
    ]
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": f"{kind}WebhookConfiguration"}
    return {**head, "metadata": {"name": name}, "webhooks": webhooks}


def _wait_until_open(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        else:
            return
