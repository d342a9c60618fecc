"""The OCI image format, as far as we write it ourselves: digests, chain IDs, and archives that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest(content: bytes) -> str:
    """``sha256:<hex>`` of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain ID of each layer: a digest of the layer and all below it, as the OCI image spec defines it."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digest(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains


def blob_path(name: str) -> str:
    """Path of the blob with this digest in an OCI layout."""
    return "blobs/" + name.replace(":", "/")


def pack(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """A deterministic uncompressed tar of ``files``."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), (modes or {}).get(name, 0o644)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def archive(name: str, manifest: bytes, blobs: Sequence[bytes]) -> bytes:
    """An image as an archive to import: its manifest under a name, and the given contents.

    Contents that the receiver can do without (layers that it has unpacked already) may be left out.
    """
    media_type = json.loads(manifest).get("mediaType", OCI_MANIFEST)
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    entry = {"mediaType": media_type, "digest": digest(manifest), "size": len(manifest), "annotations": annotations}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    contents = {blob_path(digest(item)): item for item in (manifest, *blobs)}
    return pack({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **contents})


def single_file_image(name: str, program: bytes) -> bytes:
    """An image that contains a single static program, as an archive to import."""
    layer = pack({"program": program}, {"program": 0o755})
    machine = platform.machine()
    content = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": ["/program"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    config = json.dumps(content).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": OCI_LAYER, "digest": digest(layer), "size": len(layer)}],
    }
    return archive(name, json.dumps(manifest).encode(), [config, layer])
