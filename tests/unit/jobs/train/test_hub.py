"""Base models of a hub, over the wire with the hub's own library against a fake hub."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.progress import ProgressReporter
from subterra_jobs.stage.runner import StageContext
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import Lease
from subterra_jobs.train.source.base_model_source import base_model
from subterra_jobs.train.source.hub import HubModel
from subterra_testkit.runs.generation_inputs import run_input
from subterra_testkit.servers.fake_hub import FakeHub, fake_hub

FIRST, SECOND = "1" * 40, "2" * 40
WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"code may hide here",
    "onnx/model.safetensors": b"another format",
}
LATER_CONFIG = b'{"later": 1}'
WANTED = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub(
        FakeHub(commits={FIRST: FILES, SECOND: FILES | {"config.json": LATER_CONFIG}}, branches={"main": FIRST})
    ) as served:
        yield served


def context(folder: Path, hub: FakeHub, token: str = "") -> StageContext:
    """Of an attempt whose pod has nothing but the store."""
    run, work = run_input(folder / "store"), folder / "pod"
    work.mkdir(exist_ok=True)
    store = ArtifactStore(run.store)
    environment = StageEnvironment(hub_endpoint=hub.url, hub_token=token)
    return StageContext(run, environment, store, work, work, ProgressReporter("train"), Lease(store, "work/x.lease", 1, "run", "x"))


def fetched(uri: str, at: StageContext) -> Path:
    return Path(base_model(uri, at))


def test_a_model_is_downloaded_once_and_then_needs_no_hub(tmp_path: Path, hub: FakeHub) -> None:
    first = fetched("hf://org/tiny", context(tmp_path, hub))
    assert sorted(hub.downloads) == WANTED
    assert (first / "model.safetensors").read_bytes() == WEIGHTS
    assert str(first).startswith(str(tmp_path / "store"))
    hub.down = True
    assert fetched("hf://org/tiny", context(tmp_path, hub)) == first


def test_later_attempts_keep_the_commit_of_the_first_although_the_branch_moved(tmp_path: Path, hub: FakeHub) -> None:
    first = fetched("hf://org/tiny@main", context(tmp_path, hub))
    hub.branches["main"] = SECOND
    assert fetched("hf://org/tiny@main", context(tmp_path, hub)) == first
    other = context(tmp_path, hub)
    keys = other.input.keys.model_copy(update={"model": "sha256:" + "b" * 64})
    fresh = replace(other, input=other.input.model_copy(update={"keys": keys}))
    assert (fetched("hf://org/tiny@main", fresh) / "config.json").read_bytes() == LATER_CONFIG


def test_a_download_that_is_cut_goes_on_where_it_ended(tmp_path: Path, hub: FakeHub) -> None:
    large = bytes(22_000_000)  # the library writes ten megabytes at a time
    hub.commits[FIRST], hub.cut_after = FILES | {"model.safetensors": large}, 12_000_000
    directory = fetched("hf://org/tiny", context(tmp_path, hub))
    assert (directory / "model.safetensors").read_bytes() == large
    assert hub.downloads.count("model.safetensors") == 2


def test_bytes_that_changed_on_the_way_are_never_used(tmp_path: Path, hub: FakeHub) -> None:
    hub.damaged = frozenset({"model.safetensors"})
    with pytest.raises(InfrastructureError, match=r"model\.safetensors of hf://org/tiny@main arrived damaged"):
        fetched("hf://org/tiny", context(tmp_path, hub))
    hub.damaged = frozenset()
    assert (fetched("hf://org/tiny", context(tmp_path, hub)) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_changed_in_the_store_is_found_before_training(tmp_path: Path, hub: FakeHub) -> None:
    directory = fetched("hf://org/tiny", context(tmp_path, hub))
    (directory / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"\0")
    with pytest.raises(InfrastructureError, match=r"does not match its manifest: .*; delete base-models/org/tiny"):
        fetched("hf://org/tiny", context(tmp_path, hub))


def test_a_private_model_is_read_with_the_runs_token(tmp_path: Path, hub: FakeHub) -> None:
    hub.token = "hf_secret"
    with pytest.raises(InvalidInputError, match=r"does not exist or is private; .* execution\.hubTokenSecret"):
        fetched("hf://org/tiny", context(tmp_path, hub))
    assert fetched("hf://org/tiny", context(tmp_path, hub, "hf_secret")).is_dir()


@pytest.mark.parametrize(
    ("uri", "change", "error", "fix"),
    [
        ("hf://org/tiny", {"gated": True}, InvalidInputError, "is gated; accept its terms on the hub, and name a Secret"),
        ("hf://org/tiny@v9", {}, InvalidInputError, "no such branch, tag or commit; correct baseModel.uri"),
        ("hf://org/other", {}, InvalidInputError, "does not exist or is private; correct baseModel.uri"),
        ("hf://tiny", {}, InvalidInputError, "write hf://ORGANISATION/NAME"),
        ("hf://org/tiny", {"down": True}, InfrastructureError, r"HTTP 503\); the run will be retried"),
        ("hf://org/tiny", {"commits": {FIRST: {"config.json": b"{}"}}}, InvalidInputError, r"has no \.safetensors weights"),
    ],
)
def test_a_refusal_says_what_to_do(
    tmp_path: Path, hub: FakeHub, uri: str, change: dict[str, object], error: type[StageError], fix: str
) -> None:
    for name, value in change.items():
        setattr(hub, name, value)
    with pytest.raises(error, match=fix) as raised:
        fetched(uri, context(tmp_path, hub))
    assert "\n" not in str(raised.value)


def test_a_hub_that_cannot_be_reached_is_tried_again_later(tmp_path: Path, hub: FakeHub) -> None:
    hub.url = "http://127.0.0.1:9"
    with pytest.raises(InfrastructureError, match="the run will be retried"):
        fetched("hf://org/tiny", context(tmp_path, hub))


def test_too_little_space_is_said_with_numbers(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(InfrastructureError, match=r"needs 0\.0 GB and 0\.0 GB are free in .*; enlarge the store"):
        fetched("hf://org/tiny", context(tmp_path, hub))
    assert not hub.downloads


def test_the_progress_names_the_model_and_how_much_has_arrived(tmp_path: Path, hub: FakeHub) -> None:
    at = context(tmp_path, hub)
    fetched("hf://org/tiny", at)
    assert at.progress.current.message == "downloading hf://org/tiny@main: 0.0 of 0.0 GB"


def test_a_revision_may_have_slashes_and_a_name_may_not_have_spaces() -> None:
    assert HubModel.parse("org/name@refs/pr/1") == HubModel("org/name", "refs/pr/1")
    with pytest.raises(InvalidInputError):
        HubModel.parse("org/na me")


@pytest.mark.parametrize(
    ("files", "refusal"),
    [
        ({"config.json": b'{"quantization_config": {"quant_method": "awq"}}'}, r"quantization_config\.quant_method is awq"),
        ({"config.json": b'{"max_position_embeddings": 16}'}, r"set training\.maxLength: 16, or less"),
        ({"config.json": b"{"}, r"config\.json is not JSON .*; name another baseModel\.uri"),
        ({"config.json": b"[]"}, r"config\.json is not a JSON object; name another baseModel\.uri"),
        ({"adapter_config.json": b"{}"}, "it is an adapter; merge it into its base model"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_its_weights_are_fetched(
    tmp_path: Path, hub: FakeHub, files: dict[str, bytes], refusal: str
) -> None:
    hub.commits[FIRST] = files | {"model.safetensors": WEIGHTS}
    with pytest.raises(InvalidInputError, match=f"base model hf://org/tiny@main: .*{refusal}"):
        fetched("hf://org/tiny", context(tmp_path, hub))
    assert "model.safetensors" not in hub.downloads


def test_the_same_weights_in_mistrals_own_format_are_not_fetched(tmp_path: Path, hub: FakeHub) -> None:
    hub.commits[FIRST] = FILES | {"consolidated.safetensors": WEIGHTS}
    fetched("hf://org/tiny", context(tmp_path, hub))
    assert sorted(hub.downloads) == WANTED
