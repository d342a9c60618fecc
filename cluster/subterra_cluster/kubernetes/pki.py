"""A small public-key infrastructure made with openssl: two authorities, two or three servers, one client per component.

Nothing in the cluster is anonymous: with an open kubelet any pod could run commands in any other.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.config import DOMAIN, NODE_NAME, SERVICE_IP
from subterra_cluster.host.shell import run, write_if_changed

AUTHORITY = "ca"
ETCD_AUTHORITY = "etcd-ca"  # separate, so that Kubernetes clients have no access to the database
DAYS = 3650


@dataclass(frozen=True)
class Certificate:
    """A certificate's contents. `hosts` makes it a server's, otherwise it is a client's; an authority has no `issuer`."""

    name: str
    common_name: str
    organisation: str = ""
    hosts: tuple[str, ...] = ()
    issuer: str | None = AUTHORITY


def api_hosts(address: str) -> tuple[str, ...]:
    """All host names and addresses of the API server."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    return (address, "127.0.0.1", SERVICE_IP, "localhost", *service)


def authorities() -> list[Certificate]:
    """The two self-signed authorities."""
    return [Certificate(name, f"subterra-{name}", issuer=None) for name in (AUTHORITY, ETCD_AUTHORITY)]


def certificates(address: str) -> list[Certificate]:
    """All certificates of a cluster whose API server and node have this address."""
    return [
        Certificate("apiserver", "kube-apiserver", hosts=api_hosts(address)),
        Certificate("kubelet-serving", f"system:node:{NODE_NAME}", "system:nodes", hosts=(address, NODE_NAME)),
        Certificate("etcd", "etcd", hosts=("127.0.0.1", "localhost"), issuer=ETCD_AUTHORITY),
        Certificate("apiserver-etcd", "kube-apiserver", issuer=ETCD_AUTHORITY),
        Certificate("apiserver-kubelet", "kube-apiserver", "system:masters"),
        Certificate("admin", "admin", "system:masters"),
        Certificate("controllers", "system:kube-controller-manager"),
        Certificate("scheduler", "system:kube-scheduler"),
        Certificate("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
        Certificate("proxy", "system:kube-proxy"),
        Certificate("coredns", "system:coredns"),
        Certificate("localpv", "system:localpv"),
    ]


def is_address(host: str) -> bool:
    """Whether a host is written as an IPv4 address."""
    return host.replace(".", "").isdigit()


def openssl_config(certificate: Certificate) -> str:
    """The openssl configuration of one certificate, independent of the machine's own."""
    subject = [f"CN={certificate.common_name}"]
    if certificate.organisation:
        subject.insert(0, f"O={certificate.organisation}")
    if certificate.issuer is None:
        extensions = ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
    else:
        usage = "serverAuth" if certificate.hosts else "clientAuth"
        extensions = ["basicConstraints=critical,CA:false", "keyUsage=critical,digitalSignature"]
        extensions.append(f"extendedKeyUsage={usage}")
    if certificate.hosts:
        names = [f"{'IP' if is_address(host) else 'DNS'}:{host}" for host in certificate.hosts]
        extensions.append(f"subjectAltName={','.join(names)}")
    head = ["[req]", "prompt=no", "string_mask=utf8only", "distinguished_name=subject", "x509_extensions=extensions"]
    return "\n".join([*head, "[subject]", *subject, "[extensions]", *extensions, ""])


def _issue(folder: Path, certificate: Certificate) -> None:
    """Make one key (EC P-256) and its certificate."""
    config = folder / f"{certificate.name}.cnf"
    config.write_text(openssl_config(certificate))
    command = ["openssl", "req", "-x509", "-config", str(config), "-days", str(DAYS), "-sha256", "-nodes"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    if certificate.issuer is not None:
        authority = folder / certificate.issuer
        command += ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"]
    target = folder / certificate.name
    run([*command, "-keyout", f"{target}.key", "-out", f"{target}.crt"])
    config.unlink()


def create(folder: Path, address: str) -> None:
    """Create all keys and certificates unless they exist; the folder appears only when complete."""
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    for certificate in authorities():
        _issue(temporary, certificate)
    key = temporary / "service-accounts"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{key}.key"])
    run(["openssl", "pkey", "-in", f"{key}.key", "-pubout", "-out", f"{key}.pub"])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda certificate: _issue(temporary, certificate), certificates(address)))
    temporary.rename(folder)


def kubeconfig(folder: Path, client: str, server: str) -> str:
    """A self-contained kubeconfig for one client, as JSON (which is YAML)."""

    def inline(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": inline(f"{AUTHORITY}.crt")}
    user = {"client-certificate-data": inline(f"{client}.crt"), "client-key-data": inline(f"{client}.key")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "subterra", "cluster": cluster}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": "subterra", "context": {"cluster": "subterra", "user": client}}],
        "current-context": "subterra",
    }
    return json.dumps(content, indent=1) + "\n"


def write_kubeconfigs(folder: Path, clients: Iterable[str], server: str) -> None:
    """Write `<client>.kubeconfig` into the folder for each client, readable by the owner only."""
    for client in clients:
        write_private(folder / f"{client}.kubeconfig", kubeconfig(folder, client, server))


def write_private(path: Path, text: str) -> None:
    """Write a file that only the owner may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    write_if_changed(path, text)


def client_files(folder: Path, client: str) -> Sequence[Path]:
    """Authority, certificate and key of a client."""
    return folder / f"{AUTHORITY}.crt", folder / f"{client}.crt", folder / f"{client}.key"
