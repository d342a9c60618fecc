"""A model is checked before every load: one changed byte is found, named and refused."""

import tracemalloc
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.store import verify
from subterra_jobs.store.artifact_store import ArtifactStore, file_digest
from subterra_jobs.store.verify import verify_model

PATH = "models/abc"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def published(store: ArtifactStore, tmp_path: Path) -> str:
    """Digest of a model of three files in the store."""
    made = tmp_path / "made"
    (made / "tokenizer").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(1000))
    (made / "config.json").write_text("{}")
    (made / "tokenizer" / "vocab.json").write_text("[]")
    return store.publish(PATH, made, {})


def test_a_model_as_it_was_made_is_accepted_with_its_size(store: ArtifactStore, tmp_path: Path) -> None:
    digest = published(store, tmp_path)
    manifest = store.local(PATH) / "manifest.json"
    assert verify_model(store, PATH, digest) == 1004 + manifest.stat().st_size


def test_one_flipped_byte_is_refused_with_the_file_and_both_digests(store: ArtifactStore, tmp_path: Path) -> None:
    digest, weights = published(store, tmp_path), store.local(PATH) / "model.safetensors"
    expected, content = file_digest(weights), bytearray(weights.read_bytes())
    content[500] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InfrastructureError) as refused:
        verify_model(store, PATH, digest)
    found = file_digest(weights)
    words = f"{PATH}/model.safetensors does not match its manifest: expected SHA-256 {expected}, found {found}"
    assert str(refused.value) == words


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/vocab.json"])
def test_a_missing_file_is_refused(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    digest = published(store, tmp_path)
    (store.local(PATH) / name).unlink()
    with pytest.raises(InfrastructureError, match=f"{PATH}/{name} does not match .* found No such file"):
        verify_model(store, PATH, digest)


def test_weights_that_were_added_are_refused_because_vllm_loads_all_that_it_finds(store: ArtifactStore, tmp_path: Path) -> None:
    digest, folder = published(store, tmp_path), store.local(PATH)
    (folder / ".nfs0001").write_text("left by a file server")
    verify_model(store, PATH, digest)
    (folder / "model-2.safetensors").write_bytes(b"else")
    with pytest.raises(InfrastructureError, match=r"model-2\.safetensors is not in the model's manifest"):
        verify_model(store, PATH, digest)


def test_an_edited_manifest_is_another_model_however_well_its_files_match(store: ArtifactStore, tmp_path: Path) -> None:
    digest, folder = published(store, tmp_path), store.local(PATH)
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace('"about": {}', '"about": {"a": 1}'))
    with pytest.raises(InvalidInputError, match=f"has digest sha256:.*, but {digest} was expected"):
        verify_model(store, PATH, digest)


def test_the_check_ends_with_the_exit_code_and_the_words_that_the_operator_reports(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = published(store, tmp_path)
    monkeypatch.setattr(verify, "STORE_MOUNT", f"{tmp_path}/store")
    monkeypatch.setattr("sys.argv", ["verify", PATH, digest])
    assert verify.main() == ExitCode.SUCCEEDED
    assert "MB/s" in capsys.readouterr().out
    (store.local(PATH) / "config.json").write_text("{ }")
    assert verify.main() == ExitCode.INFRASTRUCTURE
    assert capsys.readouterr().err.startswith(f"{PATH}/config.json does not match its manifest")


def test_files_are_read_as_streams(store: ArtifactStore, tmp_path: Path) -> None:
    made = tmp_path / "store" / PATH
    made.mkdir(parents=True)
    with (made / "model.safetensors").open("wb") as file:
        file.truncate(256 * 1024 * 1024)  # sparse: read as zeros, without disk
    digest = store.seal(PATH, {})
    tracemalloc.start()
    verify_model(store, PATH, digest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
