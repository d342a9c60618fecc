"""A tiny model in a store, the request to export it, and a key as cosign makes it."""

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nacl.secret import SecretBox

from subterra_api.job_contract.model_transfer import ExportRequest, Provenance
from subterra_api.v1alpha1.scores import Verdict
from subterra_jobs.store.artifact_store import ArtifactStore

FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "model.safetensors": bytes(range(256)) * 400,
    "README.md": b"# A model\n",
    "chat_template.jinja": b"",
}
MODEL, DATASET = "models/" + "a" * 32, "datasets/" + "b" * 32


def stored_model(folder: Path, files: dict[str, bytes] | None = None) -> tuple[ArtifactStore, ExportRequest]:
    """A store with a model and its dataset, and the request to push the model to a place that is still to be set."""
    store = ArtifactStore(f"file://{folder / 'store'}")
    digests = {}
    for path, content in ((MODEL, files or FILES), (DATASET, {"train.jsonl": b"{}\n"})):
        source = folder / path.partition("/")[0]
        for name, data in content.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        digests[path] = store.publish(path, source, {"stage": "train"})
    provenance = Provenance(
        agent="travel",
        namespace="staging",
        procedure="travel",
        procedure_digest="sha256:" + "1" * 64,
        run="travel-0123abcd",
        base_model="scratch",
        dataset=digests[DATASET],
        model=digests[MODEL],
        verdict=Verdict(result="Pass", reasons=("conformant 96 % (92 to 98)",)),
    )
    return store, ExportRequest(to="oci://nowhere/agents:1", provenance=provenance, model_path=MODEL, dataset_path=DATASET)


def signing_secret(folder: Path, password: bytes = b"a password") -> tuple[Path, str]:
    """A folder as the Secret of `cosign generate-key-pair k8s://…` is mounted, and the public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    salt, nonce, params = os.urandom(32), os.urandom(24), {"N": 1024, "r": 8, "p": 1}
    box = SecretBox(hashlib.scrypt(password, salt=salt, n=params["N"], r=params["r"], p=params["p"], dklen=32))
    hidden = box.encrypt(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), nonce).ciphertext
    content = {
        "kdf": {"name": "scrypt", "params": params, "salt": _text(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _text(nonce)},
        "ciphertext": _text(hidden),
    }
    kind = "ENCRYPTED SIGSTORE PRIVATE KEY"
    folder.mkdir()
    (folder / "cosign.key").write_text(f"-----BEGIN {kind}-----\n{_text(json.dumps(content).encode())}\n-----END {kind}-----\n")
    (folder / "cosign.password").write_bytes(password)
    (folder / "cosign.pub").write_text(public)
    return folder, public


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
