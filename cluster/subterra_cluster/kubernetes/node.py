"""The node: containerd, kubelet, Services, DNS and volumes on this machine, and the restoration of its settings."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subterra_cluster.config import NODE_IP, NODE_NAME, Paths, Ports
from subterra_cluster.host.processes import Daemon
from subterra_cluster.host.shell import run
from subterra_cluster.kubernetes import files
from subterra_cluster.kubernetes.api import answers, listens
from subterra_cluster.kubernetes.control_plane import LOCALHOST, Plane

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))

# Folders that containerd and the kubelet always create outside the state folder.
HOST_FOLDERS = ("/var/lib/kubelet", "/var/log/containers", "/var/lib/cni", "/run/containerd", "/opt/containerd")

# Settings that kubelet, CNI and kube-proxy change; `down` restores them.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/vs/conn_reuse_mode",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def cni_plugins() -> Path:
    """The folder where the distribution puts CNI plugins."""
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), CNI_FOLDERS[0])


def remember_host(paths: Paths, proc: Path = Path("/proc/sys"), folders: Sequence[str] = HOST_FOLDERS) -> None:
    """Record the machine's original settings, once per cluster."""
    target = paths.state / "host.json"
    if target.exists():
        return
    values = {name: (proc / name).read_text().strip() for name in SYSCTLS if (proc / name).exists()}
    absent = [name for name in folders if not Path(name).exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"sysctls": values, "absent": absent}, indent=1))


def restore_host(paths: Paths, proc: Path = Path("/proc/sys")) -> None:
    """Restore the settings that `remember_host` recorded."""
    for name, value in _remembered(paths)["sysctls"].items():
        if (proc / name).exists() and (proc / name).read_text().strip() != value:
            (proc / name).write_text(value)
    for folder in made_folders(paths):
        shutil.rmtree(folder, ignore_errors=True)


def made_folders(paths: Paths) -> list[Path]:
    """The folders outside the state folder that this cluster created."""
    return [Path(name) for name in _remembered(paths)["absent"]]


def _remembered(paths: Paths) -> Any:
    """The record of `remember_host`, or an empty one."""
    try:
        return json.loads((paths.state / "host.json").read_text())
    except (OSError, ValueError):
        return {"sysctls": {}, "absent": []}


def prepare(paths: Paths, ports: Ports) -> None:
    """Add the node's address, enable routing, and write all configuration files."""
    remember_host(paths)
    if NODE_IP not in run(["ip", "-4", "addr", "show", "dev", "lo"]):
        run(["ip", "addr", "add", f"{NODE_IP}/32", "dev", "lo"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    paths.volumes.mkdir(parents=True, exist_ok=True)
    files.write_all(paths, ports, cni_plugins())


def containerd(paths: Paths) -> Daemon:
    """Our own containerd, separate from any other on the machine."""
    command = ["containerd", "--config", str(paths.state / "containerd.toml"), "--log-level", "warn"]
    return Daemon("containerd", command, lambda: listens(paths.containerd_socket), timeout=30)


def kubelet(plane: Plane, paths: Paths) -> Daemon:
    """The kubelet."""
    command = [str(plane.binary), "kubelet", f"--config={paths.state}/kubelet.json"]
    command += [f"--kubeconfig={plane.pki}/kubelet.kubeconfig", f"--root-dir={paths.state}/kubelet"]
    command += [f"--hostname-override={NODE_NAME}", f"--node-ip={NODE_IP}"]
    return Daemon("kubelet", command, lambda: answers(f"http://{LOCALHOST}:{plane.ports.kubelet_health}/healthz"))


def kube_proxy(plane: Plane, paths: Paths) -> Daemon:
    """kube-proxy."""
    command = [str(plane.binary), "kube-proxy", f"--config={paths.state}/kube-proxy.json"]
    return Daemon("kube-proxy", command, lambda: answers(f"http://{LOCALHOST}:{plane.ports.proxy_health}/healthz"))


def coredns(plane: Plane, paths: Paths) -> Daemon:
    """The DNS server."""
    command = [str(plane.binary), "coredns", "-conf", f"{paths.state}/Corefile"]
    return Daemon("coredns", command, lambda: answers(f"http://{LOCALHOST}:{plane.ports.dns_ready}/ready"))


def localpv(plane: Plane, paths: Paths) -> Daemon:
    """The volume provisioner; it has no health endpoint, so being alive is being ready."""
    command = [str(plane.binary), "localpv", "-kubeconfig", f"{plane.pki}/localpv.kubeconfig"]
    command += ["-directory", str(paths.volumes), "-node", NODE_NAME]
    return Daemon("localpv", command, lambda: True)


def is_root() -> bool:
    """Whether this process is root."""
    return os.geteuid() == 0
