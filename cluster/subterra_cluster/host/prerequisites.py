"""Requirements for a machine to become a node; every problem names its fix."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.config import NODE_IP, Paths, Ports
from subterra_cluster.host.shell import ClusterError, run, step
from subterra_cluster.kubernetes.node import CNI_FOLDERS, is_root

GIB = 1024**3
DISK_NEEDED = 15 * GIB
MEMORY_NEEDED = 6 * GIB
SOCKET_LIMIT = 107

# Program → Debian package.
NODE_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "openssl": "openssl",
    "mount": "mount",
    "setpriv": "util-linux",
}
IMAGE_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap"}
CNI_PACKAGE = "containernetworking-plugins"


@dataclass(frozen=True)
class Machine:
    """The facts that decide; gathered by `inspect`, invented by tests."""

    root: bool
    debian: bool
    disk: int
    memory: int
    busy_ports: tuple[int, ...] = ()
    foreign_kubelet: bool = False
    socket_length: int = 0
    missing: tuple[str, ...] = ()


def problems(machine: Machine) -> list[str]:
    """Unmet requirements, each with its fix."""
    found = []
    if not machine.root:
        found.append(
            "a node needs root (containers, nftables): run it as root; without root only the control plane runs "
            "(ControlPlane in subterra_cluster/control_plane.py), or use your own cluster"
        )
    if machine.disk < DISK_NEEDED:
        found.append(f"{_gib(machine.disk)} of disk are free, {_gib(DISK_NEEDED)} are needed: free some, or set SUBTERRA_CACHE")
    if machine.memory < MEMORY_NEEDED:
        found.append(f"{_gib(machine.memory)} of memory, {_gib(MEMORY_NEEDED)} are needed: use a larger machine")
    if machine.foreign_kubelet:
        found.append("another kubelet runs here: stop it, or use that cluster; two of them would fight over pods")
    elif machine.busy_ports:
        ports = ", ".join(str(port) for port in machine.busy_ports)
        found.append(f"these ports are taken: {ports}; see who listens with `ss -ltnp` and stop it")
    if machine.socket_length > SOCKET_LIMIT:
        found.append(
            f"the checkout's path is too long: a socket in it would have {machine.socket_length} characters, "
            f"{SOCKET_LIMIT} are possible; move the checkout"
        )
    if machine.missing and not machine.debian:
        found.append(f"these packages are missing: {' '.join(machine.missing)}; install them with your distribution's tools")
    return found


def _gib(size: int) -> str:
    """A human-readable size."""
    return f"{size / GIB:.1f} GiB"


def missing_packages(programs: Mapping[str, str], found: Iterable[str], cni: bool) -> tuple[str, ...]:
    """The packages to install, given the programs that were found and whether CNI plugins are needed and absent."""
    present = set(found)
    packages = {package for program, package in programs.items() if program not in present}
    return tuple(sorted(packages | ({CNI_PACKAGE} if cni else set())))


def inspect(paths: Paths, ports: Ports, *, programs: Mapping[str, str], node: bool) -> Machine:
    """Inspect this machine; ports are skipped while our own cluster is running."""
    present = [program for program in programs if shutil.which(program)]
    cni = node and not any((folder / "ptp").exists() for folder in CNI_FOLDERS)
    ours = any(paths.pids.glob("*.json"))
    paths.cache.mkdir(parents=True, exist_ok=True)
    return Machine(
        root=is_root(),
        debian=shutil.which("apt-get") is not None,
        disk=shutil.disk_usage(paths.cache).free if node and not ours else DISK_NEEDED,
        memory=_memory() if node else MEMORY_NEEDED,
        busy_ports=_busy(ports) if node and not ours else (),
        foreign_kubelet=node and not ours and _busy_port("127.0.0.1", ports.kubelet_health),
        socket_length=len(str(paths.containerd_socket)),
        missing=missing_packages(programs, present, cni),
    )


def _memory() -> int:
    """The machine's memory."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _busy(ports: Ports) -> tuple[int, ...]:
    """Ports of ours that are in use."""
    node = (ports.api, ports.kubelet, ports.dns)
    local = [ports.etcd, ports.etcd_peer, ports.etcd_metrics, ports.controllers, ports.scheduler]
    local += [ports.kubelet_health, ports.proxy_health, ports.proxy_metrics, ports.dns_health, ports.dns_ready]
    wanted = [(NODE_IP, port) for port in node] + [("127.0.0.1", port) for port in local]
    return tuple(port for address, port in wanted if _busy_port(address, port))


def _busy_port(address: str, port: int) -> bool:
    """Whether a port cannot be bound; an address that does not exist yet is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno == 98  # EADDRINUSE; EADDRNOTAVAIL is what a new node sees
    return False


def ensure(paths: Paths, ports: Ports, *, node: bool, images: bool) -> None:
    """Check the machine and install missing packages. Raises ClusterError with all problems."""
    programs = (NODE_PROGRAMS if node else {}) | (IMAGE_PROGRAMS if images else {})
    machine = inspect(paths, ports, programs=programs, node=node)
    found = problems(machine)
    if found:
        raise ClusterError("this machine cannot do it yet:\n" + "\n".join(f"  - {problem}" for problem in found))
    if machine.missing:
        with step(f"installing {' '.join(machine.missing)}"):
            install(machine.missing)


def install(packages: Iterable[str]) -> None:
    """Install Debian packages without starting their services; containerd's service is disabled, because we run our own."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    foreign = shutil.which("containerd") is not None
    run(["apt-get", "update", "-qq"], env=quiet, check=False)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)
    if not foreign and "containerd" in packages and Path("/run/systemd/system").exists():
        run(["systemctl", "disable", "--now", "containerd"], check=False)
