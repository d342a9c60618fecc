"""How kstatus, Argo CD and Flux read our objects. ``python -m tests.tools.gitops_health.build`` builds their libraries."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests import programs

from subterra_cluster.config import default_cache
from subterra_operator.resources import Object

SOURCES = Path(__file__).parent

Oracle = Callable[[Object], tuple[str, str]]
"""Status and message of an object."""


def ask(program: Path, question: tuple[str | Path, ...], obj: Object) -> tuple[str, str]:
    """What ``question`` (kstatus; lua and a script; cel and a Kustomization) makes of an object: status and message."""
    done = subprocess.run([program, *question], input=json.dumps(obj), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["status"], answer["message"]


if __name__ == "__main__":
    programs.ensure(SOURCES, ".", default_cache())
