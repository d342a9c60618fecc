"""The statement about a model next to its artifact, under the tag where cosign looks for it, and the policy about it."""

import json

from subterra_api.job_contract.model_transfer import PREDICATE_TYPE, Provenance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.store.registry.oci_repository import MANIFEST_TYPE, Descriptor, Repository
from subterra_jobs.store.registry.signing import verified
from subterra_jobs.store.registry.statement import provenance_of

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
IMAGE_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
COSIGN_SIGNATURE = "dev.cosignproject.cosign/signature"


def tag_of(digest: str) -> str:
    """The tag of the attestation of an artifact, as cosign forms it."""
    return digest.replace(":", "-") + ".att"


def attach(repository: Repository, artifact: Descriptor, envelope: bytes) -> None:
    """Stores the envelope next to the artifact, in place of an earlier one."""
    layer = repository.put_bytes(envelope)
    filesystem = {"type": "layers", "diff_ids": [layer.digest]}
    config = repository.put_bytes(json.dumps({"architecture": "", "os": "", "config": {}, "rootfs": filesystem}).encode())
    annotations = {COSIGN_SIGNATURE: "", "predicateType": PREDICATE_TYPE}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": IMAGE_CONFIG_TYPE, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": ENVELOPE_TYPE, "digest": layer.digest, "size": layer.size, "annotations": annotations}],
        "subject": {"mediaType": MANIFEST_TYPE, "digest": artifact.digest, "size": artifact.size},
    }
    repository.put_manifest(tag_of(artifact.digest), json.dumps(manifest).encode())


def attached(repository: Repository, digest: str) -> bytes | None:
    """The envelope next to an artifact; `None` if there is none that can be read."""
    try:
        layer = json.loads(repository.manifest(tag_of(digest)))["layers"][0]
        return repository.get_bytes(Descriptor(layer["digest"], layer["size"]))
    except (InvalidInputError, ValueError, LookupError, TypeError):
        return None


def checked(envelope: bytes | None, digest: str, model: str, public_key: str) -> Provenance:
    """The provenance that the owner of the key vouches for. Raises InvalidInputError unless it is of this artifact and passed."""
    if envelope is None:
        raise InvalidInputError(
            f"the registry has no attestation of {digest}; set promotion.export where the model is exported, or copy the artifact "
            f"with the tag {tag_of(digest)}"
        )
    found = provenance_of(verified(envelope, public_key), digest)
    if found.model != model:
        raise InvalidInputError(f"the attestation is about model {found.model}, and spec.model.digest is {model}; correct it")
    if found.verdict.result != "Pass":
        reasons = "; ".join(found.verdict.reasons)
        raise InvalidInputError(
            f"the attestation says that run {found.run} did not pass the gate ({found.verdict.result}: {reasons}); export one "
            "that did, or remove spec.model.requireAttestation"
        )
    return found
