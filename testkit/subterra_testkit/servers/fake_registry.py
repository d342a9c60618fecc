"""An OCI registry in this process, over TLS: the part of the distribution specification that pushes and pulls, with faults.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import base64
import datetime
import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from subterra_testkit.servers.local_server import QuietHandler, in_background

USER, PASSWORD = "tester", "not-a-secret"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs/uploads|blobs|manifests)/(?P<reference>[^/]*)")


@dataclass
class FakeRegistry:
    """Everything can be set while requests arrive."""

    host: str
    authority: Path
    """Its certificate."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """By digest."""
    manifests: dict[str, bytes] = field(default_factory=dict)
    """By tag and by digest."""
    tokens: bool = False
    """Whether it asks for a token instead of a password; each token is for one request."""
    forbidden: bool = False
    """Whether the account may do nothing."""
    down: bool = False
    cut_after: int | None = None
    """Bytes of each blob before the connection is cut."""
    requests: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    """Tokens that were issued and not used."""

    @property
    def uploads(self) -> int:
        """How many blobs were uploaded."""
        return sum(request.startswith("PUT") and "/uploads/" in request for request in self.requests)

    def secret(self, folder: Path, password: str = PASSWORD) -> Path:
        """A folder as a Secret with password and authority is mounted."""
        folder.mkdir()
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (folder / ".dockerconfigjson").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        (folder / "ca.crt").write_bytes(self.authority.read_bytes())
        return folder


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body, url = self.body(), urlsplit(self.path)
        self.registry.requests.append(f"{self.command} {url.path}")
        if url.path == "/token":
            return self._token()
        if self.registry.down:
            return self._send(503)
        if not self._may():
            return None
        found = _PATH.fullmatch(url.path)
        if found is None:
            return self._failure(404, "NAME_UNKNOWN")
        if self.command in ("POST", "PUT"):
            return self._store(found, body, parse_qs(url.query).get("digest", [""])[0])
        return self._content(found)

    def _may(self) -> bool:
        registry, said = self.registry, self.headers.get("Authorization", "")
        password = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        challenge = (
            f'Bearer realm="https://{registry.host}/token",service="fake",scope="all"' if registry.tokens else 'Basic realm="fake"'
        )
        known = said.removeprefix("Bearer ") in registry.valid if registry.tokens else said == password
        registry.valid.discard(said.removeprefix("Bearer "))
        if not known:
            self._failure(401, "UNAUTHORIZED", {"Www-Authenticate": challenge})
        elif registry.forbidden:
            self._failure(403, "DENIED")
        return known and not registry.forbidden

    def _token(self) -> None:
        password = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != password:
            return self._failure(401, "UNAUTHORIZED")
        token = f"token-{len(self.registry.requests)}"
        self.registry.valid.add(token)
        return self._send(200, json.dumps({"token": token}).encode())

    def _store(self, found: re.Match[str], body: bytes, digest: str) -> None:
        actual = "sha256:" + hashlib.sha256(body).hexdigest()
        if found["kind"] == "manifests":
            self.registry.manifests[found["reference"]] = self.registry.manifests[actual] = body
            return self._send(201, headers={"Docker-Content-Digest": actual})
        if self.command == "POST":
            return self._send(202, headers={"Location": f"/v2/{found['name']}/blobs/uploads/1?state=x"})
        if actual != digest:
            return self._failure(400, "DIGEST_INVALID")
        self.registry.blobs[digest] = body
        return self._send(201)

    def _content(self, found: re.Match[str]) -> None:
        kept = self.registry.manifests if found["kind"] == "manifests" else self.registry.blobs
        content = kept.get(found["reference"])
        if content is None:
            return self._failure(404, "MANIFEST_UNKNOWN" if found["kind"] == "manifests" else "BLOB_UNKNOWN")
        return self._send(200, content, cut=self.registry.cut_after if found["kind"] == "blobs" else None)

    def _failure(self, code: int, reason: str, headers: dict[str, str] | None = None) -> None:
        words = json.dumps({"errors": [{"code": reason, "message": reason.lower()}]}).encode()
        self._send(code, words, headers)

    def _send(self, code: int, content: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        self.close_connection = cut is not None


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (folder / "registry.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "registry.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "registry.crt", folder / "registry.key"


@contextmanager
def serving(folder: Path) -> Iterator[FakeRegistry]:
    """Serves an empty registry until the end of the block."""
    certificate, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    registry = FakeRegistry(f"127.0.0.1:{server.server_port}", certificate)
    server.RequestHandlerClass.registry = registry  # type: ignore[attr-defined]
    with in_background(server):
        yield registry
