"""Pulls a model from a registry before vLLM loads it: `python -m subterra_jobs.store.registry.pull`.

It runs as an init container, so at each start of a pod that serves. Its last line is the pod's termination message.
"""

import errno
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from subterra_api.digest import sha256
from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.job_contract.model_transfer import ATTESTATION_FILE, PULL_VARIABLE, REGISTRY_MOUNT, PullRequest
from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.store.artifact_store import MANIFEST
from subterra_jobs.store.pod_program import exit_code, request_from
from subterra_jobs.store.registry import attestation
from subterra_jobs.store.registry.model_pack import File, files_of
from subterra_jobs.store.registry.oci_repository import Repository

FIELD = "spec.model"


def main() -> int:
    """Returns exit code 0 once the model is there, and is what digests and policy say."""
    return exit_code(_pulled)


def _pulled() -> str:
    started = time.monotonic()
    request = request_from(PULL_VARIABLE, PullRequest)
    size = pull(request, Path(STORE_MOUNT), Path(REGISTRY_MOUNT))
    return f"{request.uri} is model {request.digest}: {size / 1e6:,.0f} MB in {time.monotonic() - started:.1f} s"


def pull(request: PullRequest, store: Path, registry_secret: Path) -> int:
    """Size in bytes of the model, once it and the statement about it are in ``store``. Raises StageError.

    Statement and manifest are checked before gigabytes are pulled, and each layer while it comes.
    """
    address, _, digest = request.uri.removeprefix("oci://").partition("@")
    repository = Repository(address, registry_secret, FIELD)
    files = files_of(repository.manifest(digest))
    said = attestation.attached(repository, digest)
    if request.public_key is not None:
        attestation.checked(said, digest, request.digest, request.public_key)
    folder, size = store / request.path, sum(file.blob.size for file in files)
    try:
        _fetch(repository, [file for file in files if file.path == MANIFEST], folder)
        _check(folder, files, request.digest)
        _fetch(repository, files, folder)
        if said is not None:
            (store / ATTESTATION_FILE).write_bytes(said)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise InfrastructureError(f"{folder} cannot be written: {error.strerror or error}") from None
        raise InfrastructureError(_no_space(folder, size)) from None
    return size


def _fetch(repository: Repository, files: Sequence[File], folder: Path) -> None:
    """Downloads what an earlier attempt has not."""
    for file in files:
        if not (folder / file.path).exists():
            repository.get_file(file.blob, folder / file.path)


def _check(folder: Path, files: Sequence[File], expected: str) -> None:
    """Raises InvalidInputError unless the artifact is the expected model, and nothing else."""
    manifest = json.loads((folder / MANIFEST).read_text())
    if (actual := sha256(manifest)) != expected:
        raise InvalidInputError(f"the artifact has model {actual}, and spec.model.digest is {expected}; correct one of them")
    listed = {name: f"sha256:{digest}" for name, digest in manifest["files"].items()}
    pulled = {file.path: file.blob.digest for file in files if file.path != MANIFEST}
    if different := sorted(name for name in listed.keys() | pulled.keys() if listed.get(name) != pulled.get(name)):
        raise InvalidInputError(f"{different[0]} of the artifact is not as {MANIFEST} says; export the model again")


def _no_space(folder: Path, size: int) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"the node has no space for the model: it has {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free; free some, or "
        "choose nodes with a larger disk (spec.serving.nodeSelector)"
    )


if __name__ == "__main__":
    sys.exit(main())
