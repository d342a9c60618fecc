"""Layers are shared under the names that containerd computes itself."""

import io
import json
import tarfile
from pathlib import Path

from subterra_cluster.images import oci
from subterra_cluster.images.share import read_images, writable_folder

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def test_the_lowest_layer_is_its_own_chain() -> None:
    assert oci.chain_ids([A]) == [A]


def test_each_chain_covers_all_layers_below() -> None:
    chains = oci.chain_ids([A, B, C])
    assert chains[1] == oci.digest(f"{A} {B}".encode())
    assert chains[2] == oci.digest(f"{chains[1]} {C}".encode())


def test_the_same_program_is_the_same_image() -> None:
    assert oci.single_file_image("x:1", b"program") == oci.single_file_image("x:1", b"program")


def test_an_archive_names_the_image_and_holds_what_it_was_given() -> None:
    with tarfile.open(fileobj=io.BytesIO(oci.archive("x:1", b"{}", [b"config"]))) as tar:
        index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
        assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "x:1"
        assert oci.blob_path(oci.digest(b"config")) in tar.getnames()


def test_the_folder_of_a_layer_is_found_in_both_forms_of_mount() -> None:
    overlay = "mount -t overlay overlay /target -o index=off,workdir=/s/2/work,upperdir=/s/2/fs,lowerdir=/s/1/fs"
    assert writable_folder(overlay) == Path("/s/2/fs")
    assert writable_folder("mount -t bind /s/1/fs /target -o rw,rbind") == Path("/s/1/fs")


def store(folder: Path) -> bytes:
    """A buildah store with one image of two layers; returns the manifest."""
    config = json.dumps({"rootfs": {"diff_ids": [A, B]}}).encode()
    manifest = json.dumps({"config": {"digest": oci.digest(config)}}).encode()
    image = folder / "overlay-images" / "i1"
    image.mkdir(parents=True)
    (folder / "overlay-layers").mkdir()
    images = [{"id": "i1", "names": ["localhost/subterra/x:dev"], "layer": "top"}, {"id": "i2"}]
    layers = [{"id": "bottom"}, {"id": "top", "parent": "bottom"}]
    (folder / "overlay-images" / "images.json").write_text(json.dumps(images))
    (folder / "overlay-layers" / "layers.json").write_text(json.dumps(layers))
    (image / "manifest").write_bytes(manifest)
    (image / "=Y29uZmln").write_bytes(config)
    return manifest


def test_built_images_are_read_with_their_layers_lowest_first(tmp_path: Path) -> None:
    manifest = store(tmp_path)
    (image,) = read_images(tmp_path, "localhost/subterra/")
    assert image.digest == oci.digest(manifest)
    assert [layer.parent.name for layer in image.layers] == ["bottom", "top"]
    assert image.chain == oci.chain_ids([A, B])


def test_without_a_store_there_are_no_images(tmp_path: Path) -> None:
    assert read_images(tmp_path / "none", "localhost/") == []
