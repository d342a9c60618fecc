"""How the tools of others read our objects, asked of their own libraries. ``python -m tests.oracles.build`` builds them, once."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from subterra_cluster.build import cache_key, find_go, go_version_needed
from subterra_cluster.config import default_cache
from subterra_cluster.shell import locked, run, step
from subterra_operator.kinds import Object

SOURCES = Path(__file__).parent

Oracle = Callable[[Object], tuple[str, str]]
"""Status and message of an object."""


def binary(cache: Path) -> Path:
    """Where the program of these sources is, or will be."""
    return cache / f"oracles-{cache_key(SOURCES)[:16]}"


def ensure(cache: Path) -> Path:
    """The program, built when needed."""
    path = binary(cache)
    with locked(cache / "oracles.lock", "building the oracles"):
        if not path.exists():
            go, temporary = find_go(cache, go_version_needed((SOURCES / "go.mod").read_text())), path.with_suffix(".tmp")
            with step("building the oracles"):
                run([go, "build", "-trimpath", "-o", temporary, "."], cwd=SOURCES, env={"CGO_ENABLED": "0"})
            temporary.rename(path)
    return path


def ask(program: Path, question: tuple[str | Path, ...], obj: Object) -> tuple[str, str]:
    """What ``question`` (kstatus; lua and a script; cel and a Kustomization) makes of an object: status and message."""
    done = subprocess.run([program, *question], input=json.dumps(obj), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["status"], answer["message"]


if __name__ == "__main__":
    ensure(default_cache())
