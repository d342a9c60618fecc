"""Pushes a model from the store to a registry: `python -m subterra_jobs.store.registry.push`.

It runs as a Job next to the store. Its result is the pod's termination message; of a failure it is the last line.
"""

import json
import os
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from subterra_api.job_contract.environment import STORE_MOUNT, TERMINATION_LOG, TERMINATION_LOG_VARIABLE
from subterra_api.job_contract.model_transfer import EXPORT_VARIABLE, REGISTRY_MOUNT, SIGNING_MOUNT, ExportRequest, ExportResult
from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.store.artifact_store import MANIFEST, ArtifactStore, file_digest
from subterra_jobs.store.pod_program import exit_code, request_from
from subterra_jobs.store.registry import attestation, model_pack
from subterra_jobs.store.registry.oci_repository import Descriptor, Repository, digest_of
from subterra_jobs.store.registry.signing import envelope, private_key
from subterra_jobs.store.registry.statement import statement

FIELD = "spec.promotion.export"
KEY_FILE, KEY_PASSWORD_FILE = "cosign.key", "cosign.password"


def main() -> int:
    """Returns exit code 0 once the registry has the model and the statement about it."""
    return exit_code(_pushed)


def _pushed() -> str:
    request = request_from(EXPORT_VARIABLE, ExportRequest)
    result = push(request, ArtifactStore(f"file://{STORE_MOUNT}"), Path(REGISTRY_MOUNT), Path(SIGNING_MOUNT))
    Path(os.environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG)).write_text(result.model_dump_json(by_alias=True))
    return result.message


def push(request: ExportRequest, store: ArtifactStore, registry_secret: Path, signing_secret: Path) -> ExportResult:
    """Pushes the model, then the statement. Raises StageError."""
    _check_digests(request, store)
    key = _key(signing_secret) if request.sign else None  # before gigabytes are pushed
    address, _, tag = request.to.removeprefix("oci://").rpartition(":")
    repository = Repository(address, registry_secret, FIELD)
    files = _pushed_files(repository, store.local(request.model_path))
    config = model_pack.config(request.provenance.agent, request.provenance.run, files)
    manifest = model_pack.manifest(repository.put_bytes(config), files, request.provenance.model)
    repository.put_manifest(tag, manifest)
    artifact = Descriptor(digest_of(manifest), len(manifest))
    said = statement(address, artifact.digest, request.provenance)
    attestation.attach(repository, artifact, envelope(said, key))
    size = sum(file.blob.size for file in files)
    text = f"{len(files)} files, {size / 1e6:,.0f} MB, {'signed' if key else 'not signed'}"
    return ExportResult(uri=f"oci://{address}@{artifact.digest}", signed=key is not None, message=text)


def _pushed_files(repository: Repository, folder: Path) -> list[model_pack.File]:
    """The files of a model, each of them in the registry. It refuses bytes that are not those of the manifest's digest."""
    digests: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
    digests[MANIFEST], files = file_digest(folder / MANIFEST), []
    for name, digest in sorted(digests.items()):
        if not (folder / name).is_file():
            raise InfrastructureError(f"{folder.name}/{name} is missing in the store; restore it, or compile the model again")
        files.append(model_pack.File(name, repository.put_file(folder / name, f"sha256:{digest}")))
    return files


def _check_digests(request: ExportRequest, store: ArtifactStore) -> None:
    """Raises InfrastructureError unless the store has what the statement is about. A dataset or report may have been removed."""
    said, present = (
        request.provenance,
        {"model": request.model_path, "dataset": request.dataset_path, "report": request.report_path},
    )
    for kind, path in present.items():
        digest, wanted = store.digest(path) if path else None, getattr(said, kind)
        if digest != wanted and (digest is not None or kind == "model"):
            found = f"has digest {digest}" if digest else "is not in the store"
            raise InfrastructureError(
                f"{kind} {path} of run {said.run} {found}, and {wanted} was recorded; restore it from a backup"
            )


def _key(folder: Path) -> EllipticCurvePrivateKey:
    try:
        password = (folder / KEY_PASSWORD_FILE).read_bytes() if (folder / KEY_PASSWORD_FILE).is_file() else b""
        return private_key((folder / KEY_FILE).read_text(), password)
    except FileNotFoundError:
        raise InvalidInputError(
            f"the Secret of {FIELD}.signingSecret has no {KEY_FILE}; make it with cosign generate-key-pair k8s://NAMESPACE/NAME"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
