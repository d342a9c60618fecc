"""Runs the programs that a release is made with."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from subterra_cluster.config import REPOSITORY
from subterra_release.release_error import ReleaseError


def output(*command: str | Path, folder: Path = REPOSITORY, variables: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises ReleaseError with its last words."""
    environment = {**os.environ, **(variables or {})}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ReleaseError(f"{Path(words[0]).name} {words[1]} failed: {' '.join(said)}")
    return done.stdout
