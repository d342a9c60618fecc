"""Folders, ports and addresses of the cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "node1"
NODE_IP = "10.87.0.1"  # an address on `lo`: exists everywhere, and is not "loopback" to Kubernetes
POD_CIDR = "10.88.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
API_PORT = 6443
DOMAIN = "cluster.local"
STORAGE_CLASS = "local"
PROVISIONER = "subterra.dev/local"
CONTAINERD_NAMESPACE = "k8s.io"
PAUSE_IMAGE = "localhost/subterra/pause:1"
IMAGE_PREFIX = "localhost/subterra"

REPOSITORY = Path(__file__).resolve().parents[2]
GO_SOURCES = REPOSITORY / "cluster" / "go"


@dataclass(frozen=True)
class Ports:
    """Every port that a component listens on; the defaults are those of Kubernetes."""

    api: int = API_PORT
    etcd: int = 2379
    etcd_peer: int = 2380
    etcd_metrics: int = 2381
    controllers: int = 10257
    scheduler: int = 10259
    kubelet: int = 10250
    kubelet_health: int = 10248
    proxy_health: int = 10256
    proxy_metrics: int = 10249
    dns: int = 53
    dns_health: int = 18080
    dns_ready: int = 18181


@dataclass(frozen=True)
class Paths:
    """The folders of one cluster: `state` is removed by `down`, `cache` only by `purge`."""

    repository: Path
    state: Path
    cache: Path

    @property
    def logs(self) -> Path:
        """One log file per component."""
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        """One record per running component."""
        return self.state / "pids"

    @property
    def pki(self) -> Path:
        """Keys, certificates and kubeconfigs."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """The socket of our own containerd; sockets may have no more than 107 characters."""
        return self.state / "run" / "containerd.sock"

    @property
    def volumes(self) -> Path:
        """The folder of the volumes that claims get."""
        return self.state / "volumes"

    @property
    def registries(self) -> Path:
        """Registries that the node pulls from: a folder for each, as containerd reads them; absent if there is none."""
        return self.state / "registries"

    @property
    def containers(self) -> Path:
        """Image storage and the debootstrap base."""
        return self.cache / "containers"


def default_cache() -> Path:
    """Absolute path of ``${SUBTERRA_CACHE:-$HOME/.cache/subterra}``."""
    return Path(os.environ.get("SUBTERRA_CACHE") or Path.home() / ".cache" / "subterra").absolute()


def default_paths(state: Path | None = None) -> Paths:
    """The folders of the cluster in ``state``; `None` is the cluster of this checkout."""
    return Paths(REPOSITORY, (state or REPOSITORY / ".cluster").absolute(), default_cache())
