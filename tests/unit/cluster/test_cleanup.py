"""What `down` takes away is ours, and only that."""

import json
from pathlib import Path

from subterra_cluster import cleanup
from subterra_cluster.config import Paths
from subterra_cluster.kubernetes import node


def paths(folder: Path) -> Paths:
    return Paths(folder, folder / "state", folder / "cache")


def test_mounts_are_taken_deepest_first_and_only_below_the_folder() -> None:
    lines = ["1 0 8:1 / / rw", "2 1 8:1 / /s rw", "3 1 8:1 / /s/a rw", r"4 1 8:1 / /s/with\040space rw", "5 1 8:1 / /state rw"]
    assert cleanup.mounts_below(Path("/s"), "\n".join(lines)) == [Path("/s/with space"), Path("/s/a"), Path("/s")]


def test_only_links_with_a_pod_address_are_removed() -> None:
    links = [
        {"ifname": "eth0", "addr_info": [{"local": "10.88.0.1"}]},
        {"ifname": "veth1", "addr_info": [{"local": "10.88.0.1"}]},
        {"ifname": "veth2", "addr_info": [{"local": "172.17.0.1"}]},
        {"ifname": "veth3"},
    ]
    assert cleanup.pod_links(json.dumps(links)) == ["veth1"]


def test_only_helpers_of_our_socket_are_killed(tmp_path: Path) -> None:
    ours = paths(tmp_path)
    commands = {
        "10": ["/usr/bin/containerd-shim-runc-v2", "-address", str(ours.containerd_socket)],
        "11": ["/usr/bin/containerd-shim-runc-v2", "-address", "/run/containerd/containerd.sock"],
        "12": ["vim", str(ours.containerd_socket)],
    }
    for pid, words in commands.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cmdline").write_bytes(b"\0".join(word.encode() for word in words))
    assert cleanup.shims(ours, tmp_path / "proc") == {10}


def test_the_machine_gets_its_settings_back(tmp_path: Path) -> None:
    proc = tmp_path / "sys"
    forward = proc / "net/ipv4/ip_forward"
    forward.parent.mkdir(parents=True)
    forward.write_text("0\n")
    made = tmp_path / "kubelet"
    node.remember_host(paths(tmp_path), proc, folders=(str(made),))
    forward.write_text("1\n")
    made.mkdir()
    node.remember_host(paths(tmp_path), proc, folders=(str(made),))  # a second `up` must not take our own value for the machine's
    node.restore_host(paths(tmp_path), proc)
    assert forward.read_text().strip() == "0"
    assert not made.exists()
