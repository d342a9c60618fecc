"""Gives images built by buildah to containerd without copying them: their layers are hard-linked.

Both keep an unpacked folder per layer. An image of gigabytes so appears in seconds and takes no space. Needs both
stores on one file system; otherwise the files are copied.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.config import CONTAINERD_NAMESPACE, Paths
from subterra_cluster.host.shell import ClusterError, run
from subterra_cluster.images import oci
from subterra_cluster.kubernetes.api import Object


@dataclass(frozen=True)
class BuiltImage:
    """An image in buildah's store: its configuration and manifest as stored, and a folder per layer, lowest first."""

    name: str
    config: bytes
    manifest: bytes
    layers: Sequence[Path]

    @property
    def digest(self) -> str:
        """The digest of the manifest, which is the image's identity."""
        return oci.digest(self.manifest)

    @property
    def chain(self) -> list[str]:
        """The chain ID of each layer, by which containerd knows its unpacked form."""
        return oci.chain_ids([str(item) for item in json.loads(self.config)["rootfs"]["diff_ids"]])


def read_images(storage: Path, prefix: str) -> list[BuiltImage]:
    """All images in buildah's store whose name starts with the prefix."""
    index = storage / "overlay-images" / "images.json"
    if not index.exists():
        return []
    layers = {item["id"]: item for item in json.loads((storage / "overlay-layers" / "layers.json").read_text())}
    found = []
    for image in json.loads(index.read_text()):
        for name in image.get("names") or []:
            if name.startswith(prefix):
                found.append(_read_image(storage, image, name, layers))
    return found


def _read_image(storage: Path, image: Object, name: str, layers: dict[str, Object]) -> BuiltImage:
    """One image of the store."""
    folder = storage / "overlay-images" / image["id"]
    manifest = (folder / "manifest").read_bytes()
    config_digest = json.loads(manifest)["config"]["digest"]
    files = {oci.digest(path.read_bytes()): path for path in folder.iterdir() if path.name.startswith("=")}
    if config_digest not in files:
        raise ClusterError(f"the store of built images is damaged at {name}: run `purge`, then `images`")
    chain: list[Path] = []
    layer: str | None = image.get("layer")
    while layer:
        chain.insert(0, storage / "overlay" / layer / "diff")
        layer = layers[layer].get("parent")
    return BuiltImage(name, files[config_digest].read_bytes(), manifest, chain)


class Containerd:
    """Our containerd, through its command-line client."""

    def __init__(self, paths: Paths) -> None:
        """Set the socket."""
        self._client = ["ctr", "--address", str(paths.containerd_socket), "--namespace", CONTAINERD_NAMESPACE]

    def run(self, *words: str, data: bytes | None = None, check: bool = True) -> str:
        """Run one `ctr` command and return what it prints."""
        return run([*self._client, *words], data=data, check=check)

    def images(self) -> dict[str, str]:
        """Name and manifest digest of all images."""
        lines = [line.split() for line in self.run("images", "list").splitlines()[1:]]
        return {words[0]: words[2] for words in lines if len(words) > 2}

    def load(self, archive: bytes) -> None:
        """Import an image from an archive."""
        self.run("images", "import", "-", data=archive)

    def snapshots(self) -> set[str]:
        """The names of all unpacked layers."""
        return {line.split()[0] for line in self.run("snapshots", "list").splitlines()[1:] if line.strip()}

    def share(self, image: BuiltImage) -> None:
        """Import a built image under its name; existing layers are reused."""
        known, parent = self.snapshots(), ""
        for chain_id, layer in zip(image.chain, image.layers, strict=True):
            if chain_id not in known:
                self._add_layer(chain_id, parent, layer)
            parent = chain_id
        self.load(oci.archive(image.name, image.manifest, [image.config]))

    def _add_layer(self, chain_id: str, parent: str, layer: Path) -> None:
        """Create an unpacked layer from buildah's folder, under a temporary name until it is complete."""
        key = f"share-{uuid.uuid4().hex}"
        self.run("snapshots", "prepare", key, *([parent] if parent else []))
        target = writable_folder(self.run("snapshots", "mounts", "/target", key))
        same = layer.stat().st_dev == target.stat().st_dev
        how = ["-al"] if same else ["-a", "--reflink=auto"]
        run(["cp", *how, "--preserve=all", f"{layer}/.", target])
        self.run("snapshots", "commit", chain_id, key)


def writable_folder(mount_command: str) -> Path:
    """The folder of a snapshot's changes, from containerd's mount command."""
    words = mount_command.split()
    for option in ",".join(words).split(","):
        if option.startswith("upperdir="):
            return Path(option.removeprefix("upperdir="))
    return Path(words[words.index("bind") + 1])  # the lowest layer is no overlay, but a plain folder
