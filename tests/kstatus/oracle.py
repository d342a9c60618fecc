"""kstatus, the library by which tools wait for a rollout. ``python -m tests.kstatus.oracle`` builds it once, into the cache."""

import json
import subprocess
from pathlib import Path

from subterra_cluster.build import cache_key, find_go, go_version_needed
from subterra_cluster.config import default_cache
from subterra_cluster.shell import locked, run, step
from subterra_operator.kinds import Object

SOURCES = Path(__file__).parent


def binary(cache: Path) -> Path:
    """Where the binary of these sources is, or will be."""
    return cache / f"kstatus-{cache_key(SOURCES)[:16]}"


def ensure(cache: Path) -> Path:
    """The binary, built when needed."""
    path = binary(cache)
    with locked(cache / "kstatus.lock", "building kstatus"):
        if not path.exists():
            go, temporary = find_go(cache, go_version_needed((SOURCES / "go.mod").read_text())), path.with_suffix(".tmp")
            with step("building kstatus"):
                run([go, "build", "-trimpath", "-o", temporary, "."], cwd=SOURCES, env={"CGO_ENABLED": "0"})
            temporary.rename(path)
    return path


def status(program: Path, obj: Object) -> tuple[str, str]:
    """Status (Current, InProgress, Failed or Terminating) and message of an object."""
    done = subprocess.run([program], input=json.dumps(obj), capture_output=True, text=True, check=True, timeout=30)
    answer = json.loads(done.stdout)
    return answer["status"], answer["message"]


if __name__ == "__main__":
    ensure(default_cache())
