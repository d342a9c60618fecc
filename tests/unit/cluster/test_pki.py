"""Who may say what to whom: decided by what the certificates contain."""

import subprocess
from pathlib import Path

import pytest

from subterra_cluster.kubernetes import pki

ADDRESS = "10.87.0.1"


def named(name: str) -> pki.Certificate:
    return next(item for item in pki.certificates(ADDRESS) if item.name == name)


def test_the_api_server_is_reachable_under_every_name_that_pods_use() -> None:
    config = pki.openssl_config(named("apiserver"))
    for name in ("IP:10.87.0.1", "IP:10.96.0.1", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local"):
        assert name in config


def test_servers_are_no_clients_and_clients_no_servers() -> None:
    for certificate in pki.certificates(ADDRESS):
        config = pki.openssl_config(certificate)
        assert ("serverAuth" in config) == bool(certificate.hosts)
        assert ("clientAuth" in config) == (not certificate.hosts)
        assert "CA:false" in config


def test_only_the_api_server_is_a_client_of_the_database() -> None:
    clients = [item for item in pki.certificates(ADDRESS) if item.issuer == pki.ETCD_AUTHORITY and not item.hosts]
    assert [item.name for item in clients] == ["apiserver-etcd"]


def test_only_admin_and_api_server_are_masters() -> None:
    masters = {item.name for item in pki.certificates(ADDRESS) if item.organisation == "system:masters"}
    assert masters == {"admin", "apiserver-kubelet"}


def test_the_kubelet_is_known_as_the_node_that_the_node_authorizer_expects() -> None:
    assert (named("kubelet").common_name, named("kubelet").organisation) == ("system:node:node1", "system:nodes")


@pytest.mark.parametrize(("host", "expected"), [("10.0.0.1", True), ("localhost", False), ("node1", False)])
def test_addresses_and_names_are_told_apart(host: str, expected: bool) -> None:
    assert pki.is_address(host) is expected


def test_openssl_accepts_it_all_and_the_chain_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    pki.create(folder, ADDRESS)
    for certificate in pki.certificates(ADDRESS):
        command = ["openssl", "verify", "-CAfile", f"{folder}/{certificate.issuer}.crt", f"{folder}/{certificate.name}.crt"]
        subprocess.run(command, check=True, capture_output=True)
    assert folder.stat().st_mode & 0o077 == 0
