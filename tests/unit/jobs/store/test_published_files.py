"""What a crash of the node may leave of an artifact: all of it, or none."""

import os
from pathlib import Path

import pytest

from subterra_jobs.store.artifact_store import MANIFEST, ArtifactStore


def test_the_manifest_comes_when_every_file_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = tmp_path / "output", ArtifactStore(f"file://{tmp_path / 'store'}")
    (source / "weights").mkdir(parents=True)
    for name in ("config.json", "weights/model.safetensors"):
        (source / name).write_text(name)
    flushed, fsync = list[int](), os.fsync

    def noted(file: int) -> None:
        fsync(file)
        flushed.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    store.publish("models/a", source, {})
    published = tmp_path / "store/models/a"
    order = ["config.json", "weights/model.safetensors", MANIFEST]
    assert flushed == [(published / name).stat().st_ino for name in order]
