"""An admission webhook over HTTPS, as Kyverno or Gatekeeper run one: it denies with a code and words, waits, or admits."""

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from subterra_testkit.servers.local_server import QuietHandler, in_background

HOST = "127.0.0.1"


@dataclass
class AdmissionWebhook:
    """What the webhook answers. ``code``: the HTTP status of a denial, `None` for one that names none."""

    url: str
    authority: bytes
    """The certificate to trust, as PEM."""
    words: str = ""
    """Why it denies; empty: it admits."""
    code: int | None = None
    seconds: float = 0.0
    """How long an answer takes."""
    asked: list[str] = field(default_factory=list)
    """Kinds of the objects about which it was asked."""

    def review(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to an AdmissionReview."""
        self.asked.append(request["kind"]["kind"])
        time.sleep(self.seconds)
        answer: dict[str, Any] = {"uid": request["uid"], "allowed": not self.words}
        if self.words:
            answer["status"] = {"message": self.words} | ({} if self.code is None else {"code": self.code})
        return answer


@contextmanager
def serving(folder: Path) -> Iterator[AdmissionWebhook]:
    """Serves a webhook that admits everything; ``folder`` receives its key and its certificate."""
    certificate, key = certificate_of(folder)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.body())
            self.answer(200, json.dumps({**asked, "request": None, "response": webhook.review(asked["request"])}).encode())

    server = ThreadingHTTPServer((HOST, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    webhook = AdmissionWebhook(f"https://{HOST}:{server.server_port}/", certificate.read_bytes())
    with in_background(server):
        yield webhook


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key."""
    certificate, key = folder / "webhook.crt", folder / "webhook.key"
    command: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=webhook", "-addext", f"subjectAltName=IP:{HOST}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
