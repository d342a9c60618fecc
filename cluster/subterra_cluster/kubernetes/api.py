"""Health checks of components, and an API server client that needs only the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from subterra_cluster.host.shell import ClusterError
from subterra_cluster.kubernetes import pki

Object = dict[str, Any]

PLURALS = {
    "ClusterRole": "rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1/clusterrolebindings",
    "StorageClass": "storage.k8s.io/v1/storageclasses",
    "Node": "v1/nodes",
}


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a health endpoint answers 200 within two seconds."""
    try:
        status, _ = request("GET", url, context=context, timeout=2.0)
    except (OSError, http.client.HTTPException):
        return False
    return status == 200


def listens(path: Path) -> bool:
    """Whether a Unix socket accepts connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def unverified() -> ssl.SSLContext:
    """A TLS context for health checks of local components with self-signed certificates; nothing secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def request(
    method: str,
    url: str,
    *,
    context: ssl.SSLContext | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
    timeout: float = 10.0,
) -> tuple[int, bytes]:
    """Send one request and return status and body. Proxy settings are ignored: all addresses are on this machine."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context or unverified())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body=body, headers={"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Api:
    """The API server as one client sees it; `folder` holds the client's certificate."""

    def __init__(self, server: str, folder: Path, client: str = "admin") -> None:
        """Store the server and the folder of the certificates, which are read at the first request."""
        self.server = server
        self.folder = folder
        self.client = client
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS settings: the cluster's authority and the client's certificate."""
        if self._context is None:
            authority, certificate, key = pki.client_files(self.folder, self.client)
            self._context = ssl.create_default_context(cafile=str(authority))
            self._context.load_cert_chain(certificate, key)
        return self._context

    def ready(self) -> bool:
        """Whether the API server is ready, all its start-up work included."""
        return answers(f"{self.server}/readyz", self.context())

    def get(self, path: str) -> Object | None:
        """The object or list at ``path``, or `None` if it is not available now."""
        try:
            status, body = request("GET", self.server + path, context=self.context())
        except (OSError, http.client.HTTPException):
            return None
        return json.loads(body) if status == 200 else None

    def apply(self, thing: Object) -> None:
        """Create or change an object of one of the kinds in PLURALS by server-side apply."""
        version, _, plural = PLURALS[thing["kind"]].rpartition("/")
        root = "/api" if version == "v1" else "/apis"
        name = thing["metadata"]["name"]
        url = f"{self.server}{root}/{version}/{plural}/{name}?fieldManager=subterra-cluster&force=true"
        body = json.dumps({"apiVersion": version, **thing}).encode()
        status, answer = request("PATCH", url, context=self.context(), body=body, content_type="application/apply-patch+yaml")
        if status not in (200, 201):
            raise ClusterError(f"the API server refused {thing['kind']} {name} ({status}): {answer.decode()[:400]}")
