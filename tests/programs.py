"""Programs of others that tests ask, each a Go module under tests/: built once and cached under a hash of its sources."""

from pathlib import Path

from subterra_cluster.binaries import cache_key, find_go, go_version_needed
from subterra_cluster.host.shell import locked, run, step


def path_of(sources: Path, cache: Path) -> Path:
    """Where the program of these sources is, or will be."""
    return cache / f"{sources.name}-{cache_key(sources)[:16]}"


def ensure(sources: Path, package: str, cache: Path) -> Path:
    """The program, built when needed."""
    path = path_of(sources, cache)
    with locked(cache / f"{sources.name}.lock", f"building {sources.name}"):
        if not path.exists():
            go, temporary = find_go(cache, go_version_needed((sources / "go.mod").read_text())), path.with_suffix(".tmp")
            with step(f"building {sources.name}"):
                run([go, "build", "-trimpath", "-o", temporary, package], cwd=sources, env={"CGO_ENABLED": "0"})
            temporary.rename(path)
    return path
