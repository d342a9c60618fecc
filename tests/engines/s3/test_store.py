"""The artifact store on a real S3 server. The lease and the ledger have their tests there too, see `store_uri`."""

import json
import multiprocessing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.messages import RunInput, StageResult
from subterra_cli.main import app
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.generate import main as generate
from subterra_jobs.stage.runner import execute
from subterra_jobs.store.artifact_store import ArtifactStore, file_digest
from subterra_testkit.runs.generation_inputs import run_input
from subterra_testkit.runs.in_process_pool import InProcessPool

PATH = "models/0a1b"


@pytest.fixture
def store(s3: str, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"{s3}/{tmp_path.name}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory as a stage leaves it, with a file that takes several parts to upload."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights.bin").write_bytes(bytes(range(256)) * 4096 * 60)  # 60 MiB, over s3fs's 50 MiB a part
    (folder / "größe.txt").write_text("ü")
    (folder / "empty").write_bytes(b"")
    return folder


def test_what_is_published_comes_back_byte_for_byte(store: ArtifactStore, source: Path) -> None:
    assert store.manifest(PATH) is None
    digest = store.publish(PATH, source, {"message": "made"})
    assert store.verify(PATH) == digest == store.digest(PATH)
    back = store.local(PATH)
    for file in source.rglob("*"):
        if file.is_file():
            assert file_digest(back / file.relative_to(source)) == file_digest(file)


def test_what_is_there_already_is_left_alone(store: ArtifactStore, source: Path, tmp_path: Path) -> None:
    first = store.publish(PATH, source, {"message": "first"})
    (tmp_path / "other").mkdir()
    assert store.publish(PATH, tmp_path / "other", {"message": "second"}) == first
    manifest = store.manifest(PATH)
    assert manifest is not None
    assert manifest["about"] == {"message": "first"}


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_file_that_was_cut_changed_or_lost_is_noticed(store: ArtifactStore, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "data.jsonl").write_text("one\ntwo\n")
    store.publish(PATH, folder, {})
    if damage == "gone":
        store.fs.rm_file(f"{store.root}/{PATH}/data.jsonl")
    else:
        store.put(f"{PATH}/data.jsonl", b"one\n" if damage == "cut" else b"one\nTWO\n")
    with pytest.raises(InfrastructureError, match=r"data\.jsonl"):
        store.verify(PATH)


def test_without_its_manifest_an_artifact_does_not_exist(store: ArtifactStore, source: Path) -> None:
    store.publish(PATH, source, {})
    store.fs.rm_file(f"{store.root}/{PATH}/manifest.json")
    assert store.manifest(PATH) is None
    with pytest.raises(InfrastructureError, match="not in the store"):
        store.local(PATH)


def test_a_listing_is_never_an_old_one(store: ArtifactStore) -> None:
    """s3fs keeps listings; another process's files must be seen all the same."""
    another = ArtifactStore(f"s3://{store.root}")
    another.fs = type(store.fs)(skip_instance_cache=True)
    assert store.sizes("ledger") == {}
    another.put("ledger/a/1.jsonl", b"12")
    assert store.sizes("ledger") == {"ledger/a/1.jsonl": 2}
    another.put("ledger/a/1.jsonl", b"1234")
    another.put("ledger/b/1.jsonl", b"")
    assert store.sizes("ledger") == {"ledger/a/1.jsonl": 4, "ledger/b/1.jsonl": 0}
    assert store.read("ledger/a/1.jsonl") == b"1234"
    assert store.read("ledger/a/2.jsonl") is None


def create(uri: str, name: str, gate: "multiprocessing.synchronize.Barrier", won: "multiprocessing.Queue[bool]") -> None:
    store = ArtifactStore(uri)
    gate.wait()
    won.put(store.create("turn", name.encode()))


def test_of_several_processes_that_create_one_file_one_wins(store: ArtifactStore) -> None:
    context = multiprocessing.get_context("spawn")
    won, gate = context.Queue(), context.Barrier(4)
    jobs = [context.Process(target=create, args=(f"s3://{store.root}", str(n), gate, won)) for n in range(4)]
    for job in jobs:
        job.start()
    assert sorted(won.get(timeout=180) for _ in jobs) == [False, False, False, True]
    for job in jobs:
        job.join()
    assert store.create("turn", b"later") is False


def test_a_stages_dataset_has_the_same_bytes_in_s3_as_on_a_volume_and_is_read_from_there(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RayPool", InProcessPool)  # who writes does not matter to the store
    local = run_input(tmp_path / "volume")
    remote = local.model_copy(update={"store": f"{s3}/{tmp_path.name}"})
    results = [stage(local), stage(remote)]
    assert results[0].digest == results[1].digest  # of the manifest, which has every file's
    assert not results[1].reused
    assert stage(remote).reused
    name = results[1].path.rpartition("/")[2]
    shown = CliRunner().invoke(app, ["dataset", "show", remote.store, "--key", name, "-o", "json"])
    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)) == 20
    store = ArtifactStore(remote.store)
    train = f"{artifact_path('generate', remote.keys.dataset)}/train.jsonl"
    store.put(train, (store.read(train) or b"")[:-10])
    cut = CliRunner().invoke(app, ["dataset", "export", remote.store, "-o", str(tmp_path / "train.jsonl")])
    assert (cut.exit_code, "train.jsonl does not match its manifest" in cut.stderr) == (2, True)


def stage(run: RunInput) -> StageResult:
    return execute("generate", generate.work, run, port=0)
