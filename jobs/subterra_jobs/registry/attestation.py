"""The in-toto statement about how a model was made, next to its artifact under the tag where cosign looks for it.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

import json

from pydantic import ValidationError

from subterra_api.job_contract.model_transfer import PREDICATE_TYPE, Provenance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.registry.client import MANIFEST_TYPE, Descriptor, Repository
from subterra_jobs.registry.signing import payload_of, verified

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
IMAGE_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
COSIGN_SIGNATURE = "dev.cosignproject.cosign/signature"


def tag_of(digest: str) -> str:
    """The tag of the attestation of an artifact, as cosign forms it."""
    return digest.replace(":", "-") + ".att"


def statement(address: str, digest: str, provenance: Provenance) -> bytes:
    """The statement that the artifact with this digest has this provenance."""
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": address, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": provenance.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


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


def provenance_of(payload: bytes, digest: str) -> Provenance:
    """The provenance in a statement about this artifact. Raises InvalidInputError."""
    try:
        value = json.loads(payload)
        subjects = [subject["digest"]["sha256"] for subject in value["subject"]]
        if value["predicateType"] != PREDICATE_TYPE or digest.removeprefix("sha256:") not in subjects:
            raise InvalidInputError(f"the attestation is about another artifact than {digest}; export the model again")
        return Provenance.model_validate(value["predicate"])
    except (ValidationError, ValueError, LookupError, TypeError) as error:
        raise InvalidInputError(f"the attestation cannot be read ({error!r:.200}); export the model again") from None


def unverified(envelope: bytes, digest: str) -> Provenance:
    """The provenance as an envelope claims it. Raises InvalidInputError."""
    return provenance_of(payload_of(envelope), digest)
