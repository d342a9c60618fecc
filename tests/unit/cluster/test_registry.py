"""A cluster in any folder, whose node pulls from the registry that it was given and from no other."""

import tomllib
from pathlib import Path

import pytest

from subterra_cluster import cli
from subterra_cluster.cluster_lifecycle import Cluster
from subterra_cluster.config import REPOSITORY, Paths, Ports, default_paths
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.images.registry import Registry, allow_pulls
from subterra_cluster.kubernetes import files

HOST = "registry.example:5000"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "state", tmp_path / "cache")


def test_the_node_trusts_the_registrys_authority_and_finds_its_file_again(paths: Paths, tmp_path: Path) -> None:
    authority = tmp_path / "authority.crt"
    authority.write_text("a certificate")
    allow_pulls(paths, Registry(HOST, authority))
    authority.unlink()
    root = tomllib.loads(files.containerd(paths, Path("/cni")))["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["config_path"]
    settings = tomllib.loads((Path(root) / HOST / "hosts.toml").read_text())
    [(address, host)] = settings["host"].items()
    assert address == settings["server"] == f"https://{HOST}"
    assert Path(host["ca"]).read_text() == "a certificate"
    assert host["capabilities"] == ["pull", "resolve"]


def test_a_registry_that_the_machine_trusts_needs_no_certificate(paths: Paths) -> None:
    allow_pulls(paths, Registry(HOST))
    assert "ca" not in tomllib.loads((paths.registries / HOST / "hosts.toml").read_text())["host"][f"https://{HOST}"]


def test_a_certificate_that_is_not_there_is_named(paths: Paths) -> None:
    with pytest.raises(ClusterError, match=r"--registry-ca .*absent\.crt cannot be read: No such file .*; check the path"):
        allow_pulls(paths, Registry(HOST, paths.repository / "absent.crt"))


def test_a_cluster_without_a_registry_has_no_folder_for_it(paths: Paths) -> None:
    files.write_all(paths, Ports(), Path("/cni"))
    assert not paths.registries.exists()


def test_a_cluster_may_be_in_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative ones too, whatever folder later commands are called from."""
    used: list[tuple[Paths, Registry | None]] = []
    monkeypatch.setattr(Cluster, "up", lambda self, registry=None: used.append((self.paths, registry)))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--folder", "other", "up", "--registry", HOST, "--registry-ca", "ca.crt"]) == 0
    assert cli.main(["up"]) == 0
    [(other, registry), (usual, none)] = used
    assert (other.state, usual.state) == (tmp_path / "other", REPOSITORY / ".cluster")
    assert other.cache == usual.cache == default_paths().cache
    assert (registry, none) == (Registry(HOST, Path("ca.crt")), None)


def test_a_certificate_without_its_registry_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--registry-ca", "ca.crt"]) == 1
    assert "--registry-ca needs --registry" in capsys.readouterr().err
