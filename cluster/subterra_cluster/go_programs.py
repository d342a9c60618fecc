"""Programs of other projects, each a folder with go.mod and go.sum: built once and cached under a hash of them."""

from collections.abc import Sequence
from pathlib import Path

from subterra_cluster.binaries import cache_key, find_go, go_version_needed
from subterra_cluster.host.shell import locked, run, step


def path_of(sources: Path, cache: Path, name: str = "") -> Path:
    """Where the program of these sources is, or will be; ``name`` tells apart several of one module."""
    return cache / f"{name or sources.name}-{cache_key(sources)[:16]}"


def ensure(sources: Path, package: str, cache: Path, name: str = "", tags: Sequence[str] = ()) -> Path:
    """The program, built when needed."""
    path, title = path_of(sources, cache, name), name or sources.name
    with locked(cache / f"{sources.name}.lock", f"building {title}"):
        if not path.exists():
            go, temporary = find_go(cache, go_version_needed((sources / "go.mod").read_text())), path.with_suffix(".tmp")
            options = ["-trimpath", "-ldflags=-s -w", *([f"-tags={','.join(tags)}"] if tags else [])]
            with step(f"building {title}"):
                run([go, "build", *options, "-o", temporary, package], cwd=sources, env={"CGO_ENABLED": "0"})
            temporary.rename(path)
    return path
