"""The in-toto statement about how a model was made, and the envelope around it. Pure, and without the libraries of the registry.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

import base64
import json

from pydantic import ValidationError

from subterra_api.job_contract.model_transfer import PREDICATE_TYPE, Provenance
from subterra_jobs.errors import InvalidInputError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def statement(address: str, digest: str, provenance: Provenance) -> bytes:
    """The statement that the artifact with this digest has this provenance."""
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": address, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": provenance.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def payload_of(content: bytes) -> bytes:
    """The payload of an envelope, whoever signed it. Raises InvalidInputError."""
    try:
        return base64.b64decode(json.loads(content)["payload"], validate=True)
    except (ValueError, LookupError, TypeError):
        raise InvalidInputError("the attestation is no DSSE envelope; export the model again") from None


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
