"""Every obstacle is named together with its cure."""

import dataclasses

import pytest

from subterra_cluster.host import prerequisites
from subterra_cluster.host.prerequisites import GIB, Machine, missing_packages, problems

FINE = Machine(root=True, debian=True, disk=100 * GIB, memory=16 * GIB)


def test_a_good_machine_has_no_problems() -> None:
    assert problems(FINE) == []


def test_missing_packages_are_installed_on_debian_and_so_no_problem() -> None:
    assert problems(dataclasses.replace(FINE, missing=("runc",))) == []


@pytest.mark.parametrize(
    ("change", "problem", "cure"),
    [
        ({"root": False}, "needs root", "run it as root"),
        ({"disk": 3 * GIB}, "3.0 GiB of disk", "SUBTERRA_CACHE"),
        ({"memory": 2 * GIB}, "2.0 GiB of memory", "larger machine"),
        ({"busy_ports": (2379, 6443)}, "2379, 6443", "ss -ltnp"),
        ({"foreign_kubelet": True}, "another kubelet", "stop it"),
        ({"socket_length": 150}, "path is too long", "move the checkout"),
        ({"debian": False, "missing": ("runc",)}, "missing: runc", "distribution"),
    ],
)
def test_each_obstacle_names_its_cure(change: dict[str, object], problem: str, cure: str) -> None:
    (message,) = problems(dataclasses.replace(FINE, **change))  # type: ignore[arg-type]
    assert problem in message
    assert cure in message


def test_a_package_is_asked_for_once_though_it_has_two_programs() -> None:
    programs = {"containerd": "containerd", "ctr": "containerd", "runc": "runc"}
    assert missing_packages(programs, ["runc"], cni=True) == ("containerd", prerequisites.CNI_PACKAGE)
