"""The same sources are the same binaries, and nothing of this machine stays in an image."""

import shutil
from pathlib import Path

import pytest

from subterra_cluster import binaries
from subterra_cluster.config import GO_SOURCES
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.images import builder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GO_SOURCES, tmp_path / "go"))


def test_a_copy_of_the_sources_has_the_same_key(sources: Path) -> None:
    assert binaries.cache_key(sources) == binaries.cache_key(GO_SOURCES)


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go", "pause/main.go"])
def test_any_change_is_another_key(sources: Path, name: str) -> None:
    with (sources / name).open("a") as file:
        file.write("\n")
    assert binaries.cache_key(sources) != binaries.cache_key(GO_SOURCES)


def test_half_a_build_is_not_used(tmp_path: Path) -> None:
    binaries.binaries_path(tmp_path).with_suffix(".tmp").mkdir()
    assert binaries.cached(tmp_path) is None


def test_the_node_reports_the_version_of_kubernetes_in_go_mod() -> None:
    go_mod = (GO_SOURCES / "go.mod").read_text()
    flags = binaries.linker_flags(go_mod)["subterra-cluster"]
    assert f"gitVersion={binaries.module_version(go_mod, 'k8s.io/kubernetes')}" in flags


def test_a_missing_module_is_named() -> None:
    with pytest.raises(ClusterError, match="requires no helm"):
        binaries.module_version("module x", "helm")


def test_debian_bases_are_found_whatever_they_are_called() -> None:
    text = "FROM --platform=x debian:trixie-slim AS a\nFROM scratch\nFROM library/debian:bookworm-slim\nFROM debian:trixie-slim\n"
    assert builder.bases(text) == ["trixie", "bookworm"]


def test_builds_get_index_settings_but_no_paths_and_no_secrets_of_other_tools() -> None:
    host = {"UV_INDEX_URL": "https://index.example/simple", "PIP_CERT": "/host/ca.crt", "AWS_SECRET": "x", "https_proxy": "p:1"}
    script = builder.environment_script(host, authorities=True)
    assert "export UV_INDEX_URL=https://index.example/simple" in script
    assert "export https_proxy=p:1" in script
    assert "/host/" not in script
    assert "AWS" not in script
    assert f"export PIP_CERT={builder.GUEST}/ca.crt" in script
