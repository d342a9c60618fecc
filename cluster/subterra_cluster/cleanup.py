"""Removes the node: containers, mounts, network, cgroups, files. Each function is idempotent and independent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from subterra_cluster.config import NODE_IP, POD_CIDR, Paths
from subterra_cluster.host.shell import ClusterError, run
from subterra_cluster.kubernetes.node import made_folders, restore_host

CGROUPS = Path("/sys/fs/cgroup")
_KILL_SECONDS = 60.0
"""A process of gigabytes takes its time to end on busy cores."""


def pod_processes(cgroups: Path = CGROUPS) -> set[int]:
    """Pids in the kubelet's cgroups: exactly the processes of pods."""
    found: set[int] = set()
    for root in _pod_cgroups(cgroups):
        for folder, _, names in os.walk(root):
            if "cgroup.procs" in names:
                try:
                    found.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
                except OSError:
                    continue
    return found


def _pod_cgroups(cgroups: Path) -> list[Path]:
    """The kubelet's cgroup folders: one in version 2, one per controller in version 1."""
    candidates = [cgroups / "kubepods", *cgroups.glob("*/kubepods")]
    return [path for path in candidates if path.is_dir()]


def shims(paths: Paths, proc: Path = Path("/proc")) -> set[int]:
    """Pids of the containerd shims that belong to our socket."""
    needle = os.fsencode(paths.containerd_socket)
    found = set()
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].rpartition(b"/")[2].startswith(b"containerd-shim") and needle in words:
            found.add(int(path.parent.name))
    return found


def kill_pods(paths: Paths) -> None:
    """Kill all containers, then their shims."""
    _kill_all(pod_processes)
    _kill_all(lambda: shims(paths))


def _kill_all(find: Callable[[], set[int]]) -> None:
    """Kill what `find` returns until it returns nothing."""
    deadline = time.monotonic() + _KILL_SECONDS
    while pids := find():
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes of pods cannot be killed: {sorted(pids)}; look for stuck I/O")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def mounts_below(folder: Path, table: str) -> list[Path]:
    """The mount points in a folder, deepest first, from the text of /proc/self/mountinfo."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in table.splitlines()]
    inside = [Path(point) for point in points if Path(point).is_relative_to(folder)]
    return list(reversed(inside))


def unmount(folder: Path) -> None:
    """Unmount everything below a folder; what is busy is detached and goes with its last user."""
    for point in mounts_below(folder, Path("/proc/self/mountinfo").read_text()):
        run(["umount", "-l", point], check=False)
    left = mounts_below(folder, Path("/proc/self/mountinfo").read_text())
    if left:
        raise ClusterError(f"still mounted: {left[0]}; unmount it by hand and repeat")


def pod_links(addresses: str) -> list[str]:
    """The host ends of pod links, from the output of `ip -j addr`: the veth devices with a pod address."""
    prefix = POD_CIDR.split(".0.0/")[0] + "."
    return [
        link["ifname"]
        for link in json.loads(addresses or "[]")
        if link.get("ifname", "").startswith("veth")
        and any(item.get("local", "").startswith(prefix) for item in link.get("addr_info", []))
    ]


def clear_network() -> None:
    """Remove pod links, the node's address and the tables of kube-proxy."""
    for name in pod_links(run(["ip", "-j", "addr"])):
        run(["ip", "link", "delete", name], check=False)  # may vanish by itself with its namespace
    if NODE_IP in run(["ip", "-4", "addr", "show", "dev", "lo"]):
        run(["ip", "addr", "del", f"{NODE_IP}/32", "dev", "lo"])
    tables = run(["nft", "list", "tables"], check=False)
    for family in ("ip", "ip6"):
        if f"table {family} kube-proxy" in tables:
            run(["nft", "delete", "table", family, "kube-proxy"])


def clear_cgroups(cgroups: Path = CGROUPS) -> None:
    """Remove the kubelet's cgroups, the innermost first."""
    for root in _pod_cgroups(cgroups):
        for folder, _, _ in os.walk(root, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue


def clear_files(paths: Paths) -> None:
    """Remove the state folder and the folders that did not exist before, and restore the machine's settings."""
    for folder in made_folders(paths):
        unmount(folder)
    unmount(paths.state)
    restore_host(paths)
    run(["rm", "-rf", "--one-file-system", paths.state])  # many times faster than Python's own
