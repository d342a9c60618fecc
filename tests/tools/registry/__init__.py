"""A real OCI registry with TLS and a password (CNCF Distribution), and krew. ``python -m tests.tools.registry`` builds them."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests import programs

from subterra_cluster.host.shell import run
from subterra_testkit.servers.local_server import free_port

SOURCES = Path(__file__).parent
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""What this machine trusts."""
PROGRAMS = {"registry": ".", "krew": "sigs.k8s.io/krew/cmd/krew"}
USER, PASSWORD = "tester", "not-a-secret"
PASSWORD_FILE = f"{USER}:$2b$04$abcdefghijklmnopqrstuukiPfWbK4Chx2wQkrCBcuNQWm8D.wM3i\n"
"""The password's bcrypt hash, as htpasswd would write it."""


def path_of(program: str, cache: Path) -> Path:
    """Where registry or krew is, or will be."""
    return programs.path_of(SOURCES, cache, program)


@dataclass(frozen=True)
class Registry:
    """A registry that runs."""

    host: str
    authority: Path
    blobs: Path
    """Folder of its contents, by digest."""


@contextmanager
def serving(program: Path, folder: Path, *addresses: str) -> Iterator[Registry]:
    """Serves an empty registry until the end of the block, for this machine alone or at further IP addresses of it too."""
    port, certificate, key = free_port(), folder / "registry.crt", folder / "registry.key"
    issue = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ",".join(f"IP:{address}" for address in ("127.0.0.1", *addresses))
    run([*issue, "-subj", "/CN=registry", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", certificate])
    passwords, settings, data = folder / "htpasswd", folder / "registry.yaml", folder / "data"
    passwords.write_text(PASSWORD_FILE)
    configuration = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": {"addr": f"{'' if addresses else '127.0.0.1'}:{port}", "tls": {"certificate": str(certificate), "key": str(key)}},
        "auth": {"htpasswd": {"realm": "tests", "path": str(passwords)}},
    }
    settings.write_text(yaml.safe_dump(configuration))
    with (folder / "registry.log").open("wb") as log:
        quiet = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
        server = subprocess.Popen([program, "serve", settings], stdout=log, stderr=subprocess.STDOUT, env=quiet)
    try:
        _wait_until_open(server, port)
        yield Registry(f"127.0.0.1:{port}", certificate, data / "docker/registry/v2/blobs/sha256")
    finally:
        server.terminate()
        server.wait(10)


def logged_in(running: Registry, folder: Path) -> dict[str, str]:
    """Variables for programs that trust the registry and push to it; the files that they name are in ``folder``."""
    (folder / "docker").mkdir()
    variables = {
        "DOCKER_CONFIG": str(folder / "docker"),
        "REGISTRY_AUTH_FILE": str(folder / "docker/config.json"),
        "SSL_CERT_FILE": str(folder / "authorities.crt"),
    }
    known = AUTHORITIES.read_text() if AUTHORITIES.exists() else ""
    (folder / "authorities.crt").write_text(known + running.authority.read_text())
    run(["buildah", "login", "--username", USER, "--password", PASSWORD, running.host], env=variables)
    return variables


def _wait_until_open(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "the registry ended; see registry.log"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        else:
            return
