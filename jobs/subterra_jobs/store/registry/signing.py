"""Signed envelopes (DSSE) with keys as `cosign generate-key-pair` makes them: ECDSA, SHA-256.

https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, load_pem_public_key
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.store.registry.statement import payload_of

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SCRYPT_MEMORY = 256 * 1024 * 1024
_ENCRYPTED = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")


def private_key(pem: str, password: bytes) -> ec.EllipticCurvePrivateKey:
    """The key in a file of cosign's, or in plain PEM. Raises InvalidInputError."""
    try:
        if any(kind in pem for kind in _ENCRYPTED):
            key = load_der_private_key(_decrypted(pem, password), None)
        else:
            key = load_pem_private_key(pem.encode(), password or None)
    except CryptoError:
        raise InvalidInputError(
            "cosign.password does not open cosign.key; correct the Secret of promotion.export.signingSecret"
        ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidInputError(
            f"cosign.key is not a private key ({error}); make one with cosign generate-key-pair k8s://…"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInputError("cosign.key is not an ECDSA key; make one with cosign generate-key-pair k8s://NAMESPACE/NAME")
    return key


def _decrypted(pem: str, password: bytes) -> bytes:
    body = "".join(line for line in pem.strip().splitlines() if not line.startswith("-----"))
    parts: dict[str, Any] = json.loads(base64.b64decode(body))
    kdf, params = parts["kdf"], parts["kdf"]["params"]
    secret = hashlib.scrypt(
        password, salt=base64.b64decode(kdf["salt"]), n=params["N"], r=params["r"], p=params["p"], maxmem=SCRYPT_MEMORY, dklen=32
    )
    return SecretBox(secret).decrypt(base64.b64decode(parts["ciphertext"]), base64.b64decode(parts["cipher"]["nonce"]))


def envelope(payload: bytes, key: ec.EllipticCurvePrivateKey | None) -> bytes:
    """The envelope of a payload, signed if there is a key."""
    signatures = [{"sig": _text(key.sign(_encoded(payload), ec.ECDSA(SHA256())))}] if key else []
    return json.dumps({"payloadType": PAYLOAD_TYPE, "payload": _text(payload), "signatures": signatures}).encode()


def verified(content: bytes, public_key: str) -> bytes:
    """The payload of an envelope that is signed with the key. Raises InvalidInputError."""
    try:
        key = load_pem_public_key(public_key.encode())
    except ValueError as error:
        raise InvalidInputError(f"spec.model.requireAttestation.publicKey is not a public key ({error}); copy cosign.pub") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInputError("spec.model.requireAttestation.publicKey is not an ECDSA key; copy cosign.pub")
    payload, signatures = payload_of(content), json.loads(content).get("signatures") or []
    if not signatures:
        raise InvalidInputError("the attestation is not signed; set promotion.export.signingSecret where the model is exported")
    if not any(_signed(key, payload, signature) for signature in signatures):
        raise InvalidInputError(
            "the attestation is signed with another key than spec.model.requireAttestation.publicKey, or was changed; "
            "correct the key, or export the model again"
        )
    return payload


def _signed(key: ec.EllipticCurvePublicKey, payload: bytes, signature: Any) -> bool:
    try:
        key.verify(base64.b64decode(signature["sig"]), _encoded(payload), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError, LookupError, TypeError):
        return False
    return True


def _encoded(payload: bytes) -> bytes:
    """What is signed: payload and type with their lengths, so that neither can be taken for the other."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
