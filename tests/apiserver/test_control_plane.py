"""The control plane alone: real Kubernetes for tests, gone without a trace afterwards."""

import json
import subprocess
from pathlib import Path

import pytest

from subterra_cluster import binaries
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane, free_ports

apiserver = [
    pytest.mark.skipif(binaries.cached(default_cache()) is None, reason="the binaries are not built: make test builds them"),
]


def kubectl(plane: ControlPlane, *words: str) -> str:
    command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mentions(folder: Path) -> list[str]:
    """The command lines of all processes that use a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(folder) in line]


def test_ports_are_all_different() -> None:
    values = vars(free_ports()).values()
    assert len(set(values)) == len(values)


class TestRunning:
    pytestmark = apiserver

    def test_it_answers_and_leaves_no_process_behind(self, tmp_path: Path) -> None:
        with ControlPlane(tmp_path) as plane:
            assert "default" in kubectl(plane, "get", "namespaces")
            assert mentions(tmp_path)
        assert mentions(tmp_path) == []

    def test_an_error_in_the_test_stops_it_as_well(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), ControlPlane(tmp_path):
            raise KeyboardInterrupt
        assert mentions(tmp_path) == []

    def test_with_kwok_a_job_completes_and_pod_security_is_enforced(self, tmp_path: Path) -> None:
        with ControlPlane(tmp_path, controllers=True, kwok=True) as plane:
            kubectl(plane, "create", "job", "work", "--image=none", "--", "true")
            kubectl(plane, "wait", "job/work", "--for=condition=complete", "--timeout=30s")
            kubectl(plane, "create", "namespace", "strict")
            kubectl(plane, "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
            with pytest.raises(subprocess.CalledProcessError) as refused:
                kubectl(plane, "-n", "strict", "run", "loose", "--image=none")
            assert "violates PodSecurity" in refused.value.stderr
            version = json.loads(kubectl(plane, "version", "-o", "json"))["serverVersion"]["gitVersion"]
            assert version.startswith("v1.")
