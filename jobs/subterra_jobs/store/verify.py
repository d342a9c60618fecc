"""Verifies a model before vLLM loads it: `python -m subterra_jobs.store.verify PATH DIGEST`.

It runs as an init container, so at each start of a pod that serves. Its last line is the pod's termination message.
"""

import os
import sys
import time
from pathlib import Path

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.store.artifact_store import MANIFEST, ArtifactStore, first_damage
from subterra_jobs.store.pod_program import exit_code

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
"""Endings of files that vLLM may load because they lie in the model's folder."""


def main() -> int:
    """Returns exit code 0 when every file matches and the manifest has the expected digest."""
    return exit_code(_verified)


def _verified() -> str:
    path, expected = sys.argv[1:3]
    started = time.monotonic()
    size = verify_model(ArtifactStore(f"file://{STORE_MOUNT}"), path, expected)
    seconds = time.monotonic() - started
    return f"model {path} is {expected}: {size / 1e6:,.0f} MB in {seconds:.1f} s, {size / 1e6 / max(seconds, 1e-3):,.0f} MB/s"


def verify_model(store: ArtifactStore, path: str, expected: str) -> int:
    """Size in bytes of a model on a volume whose manifest has the `expected` digest and whose files are all as it says.

    Raises InvalidInputError for another manifest, InfrastructureError for missing, changed or added files.
    """
    folder = store.local(path)
    if (actual := store.digest(path)) != expected:
        raise InvalidInputError(f"model {path} has digest {actual}, but {expected} was expected")
    if damage := first_damage(folder):
        raise InfrastructureError(f"{path}/{damage}")
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in _files(folder)}
    listed = {*(store.manifest(path) or {}).get("files", ()), MANIFEST}
    if added := sorted(name for name in sizes.keys() - listed if name.endswith(WEIGHTS)):
        raise InfrastructureError(f"{path}/{added[0]} is not in the model's manifest, and vLLM might load it")
    return sum(sizes.values())


def _files(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


if __name__ == "__main__":
    sys.exit(main())
