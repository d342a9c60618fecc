"""`subterra dataset` reads what the generate stage wrote, trusts none of its words, and notices what was cut."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli import cluster
from subterra_cli.main import app
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.check.branch_audit import audit_branches
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import example

PATH = "datasets/0a1b2c"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset of the travel example."""
    folder = tmp_path_factory.mktemp("made")
    output = folder / "output"
    output.mkdir()
    found = asyncio.run(_written())
    write_dataset(Graph(example("travel")), found, audit_branches(found), output)
    ArtifactStore((folder / "store").as_uri()).publish(PATH, output, {"message": "made by a test"})
    return folder / "store"


async def _written() -> list[Conversation]:
    graph = Graph(example("travel"))
    plan = plan_conversations(graph.spec, Generation(teacher=Provider(), conversations=60, seeds=(42,), held_out_percent=10))
    return [await Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned)) for planned in plan]


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def shown(*arguments: str | Path) -> list[dict[str, Any]]:
    result = run("show", *arguments, "-o", "json", "--limit", "1000")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def exported(store: Path, *arguments: str | Path) -> list[Any]:
    result = run("export", store, *arguments, "-o", "-")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_export_writes_rows_of_messages_alone(store: Path, split: str) -> None:
    source = [json.loads(line) for line in (store / PATH / f"{split}.jsonl").read_text().splitlines()]
    assert exported(store, "--split", split) == [{"messages": row["messages"]} for row in source]


def test_all_is_both_splits(store: Path) -> None:
    assert exported(store, "--split", "all") == exported(store) + exported(store, "--split", "heldout")
    assert len(exported(store, "--split", "all")) == 60


def test_parquet_has_the_same_rows(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    assert run("export", store, "--format", "parquet", "-o", file).exit_code == 0
    from pyarrow.parquet import read_table

    assert read_table(str(file)).to_pylist() == exported(store)


def test_parquet_without_pyarrow_says_what_to_install(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("export", store, "--format", "parquet", "-o", tmp_path / "x.parquet")
    assert (result.exit_code, "pip install '.[dataset]'" in result.stderr) == (2, True)


def test_the_path_stands_beside_the_turns(store: Path) -> None:
    for each in shown(store):
        assert [node for turn in each["turns"] for node in turn][-len(each["path"]) :] == each["path"]
        assert len(each["turns"]) == len(each["messages"]) - 1
        roles = {node.id: {"agent": "assistant", "user": "user"}[node.role] for node in example("travel").nodes}
        for message, nodes in zip(each["messages"][1:], each["turns"], strict=True):
            assert {roles[node] for node in nodes} <= {message["role"]}
    told = run("show", store, "--limit", "1").stdout
    assert "path: greet → ask_trip → " in told
    assert "  greet, ask_trip" in told
    assert "  agent " in told


def test_conversations_are_filtered_by_ending_and_by_edge_and_come_in_the_same_order(store: Path) -> None:
    everything = shown(store)
    assert everything == shown(store / PATH)
    assert shown(store, "--terminal", "handover") == [each for each in everything if each["path"][-1] == "handover"]
    chosen = shown(store, "--edge", "trip:suggest", "--split", "train")
    assert chosen
    assert all("trip suggest" in " ".join(each["path"]) and each["split"] == "train" for each in chosen)


def test_when_no_conversation_matches_the_endings_that_there_are_are_named(store: Path) -> None:
    result = run("show", store, "--terminal", "nowhere")
    assert result.exit_code == 1
    assert "end at booked, goodbye, handover" in result.stderr


def test_words_cannot_command_the_terminal(store: Path) -> None:
    file = store / PATH / "train.jsonl"
    file.write_text(file.read_text().replace("Hello and welcome!", "Hello \\u001b[31m"))
    ArtifactStore(store.as_uri()).publish("datasets/evil", store / PATH, {})
    told = run("show", store, "--key", "evil", "--split", "train", "--limit", "100").stdout
    assert "\x1b" not in told
    assert "Hello \ufffd[31m" in told


def test_texts_may_have_any_character_in_their_lines(store: Path) -> None:
    file = store / PATH / "train.jsonl"
    file.write_text(file.read_text().replace("Hello and welcome!", "Hello\u2028and\x85welcome!"))
    ArtifactStore(store.as_uri()).publish("datasets/lines", store / PATH, {})
    said = {message["content"] for each in shown(store, "--key", "lines", "--split", "train") for message in each["messages"]}
    assert any("Hello\u2028and\x85welcome!" in text for text in said)


def test_a_dataset_that_was_cut_is_not_exported(store: Path, tmp_path: Path) -> None:
    file = store / PATH / "train.jsonl"
    file.write_bytes(file.read_bytes()[:-200])
    result = run("export", store, "-o", tmp_path / "train.jsonl")
    assert result.exit_code == 2
    assert "train.jsonl does not match its manifest; copy the dataset again" in result.stderr
    assert not (tmp_path / "train.jsonl").exists()


def test_an_unfinished_dataset_is_none(store: Path) -> None:
    (store / PATH / "manifest.json").unlink()
    assert "contains no finished dataset" in run("show", store).stderr
    assert "contains no finished dataset" in run("show", store / PATH).stderr


def test_of_several_datasets_one_is_chosen_by_name_path_or_digest(store: Path) -> None:
    ArtifactStore(store.as_uri()).publish("datasets/ffff", store / PATH, {"message": "another"})
    told = run("show", store)
    assert told.exit_code == 2
    assert "--key 0a1b2c  sha256:" in told.stderr
    assert "--key ffff  sha256:" in told.stderr
    digest = ArtifactStore(store.as_uri()).digest(PATH)
    for key in ("0a1b2c", PATH, str(digest)):
        assert f"dataset {digest} (train)" in run("export", store, "--key", key, "-o", "-").stderr
    assert "no dataset beef, only these" in run("show", store, "--key", "beef").stderr


def test_the_dataset_of_a_run_is_found_by_the_runs_status(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {
        "travel-1": {"metadata": {"name": "travel-1"}, "status": {"artifacts": {"datasetPath": PATH}}},
        "travel-2": {"metadata": {"name": "travel-2"}},
    }
    monkeypatch.setattr(cluster.ResourceReader, "__init__", lambda *_: None)
    monkeypatch.setattr(cluster.ResourceReader, "get", lambda _, plural, name: runs.get(name) if plural == "compileruns" else None)
    assert len(exported(store, "--run", "travel-1", "--split", "all")) == 60
    assert "CompileRun travel-2 has no dataset yet" in run("show", store, "--run", "travel-2").stderr
    assert "CompileRun travel-3 not found in namespace default" in run("show", store, "--run", "travel-3").stderr
    assert "pass only one of them" in run("show", store, "--run", "travel-1", "--key", "0a1b2c").stderr


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("show", "nowhere"), "no such folder; pass a dataset's folder or a store"),
        (("show", "ftpx://host/path"), "ftpx"),
        (("show", ".", "--edge", "choice"), "write an edge as FROM:TO"),
        (("export", ".", "-o", "-", "--format", "parquet"), "contains no finished dataset"),
    ],
)
def test_what_cannot_be_done_says_what_to_do_and_exits_with_2(arguments: tuple[str, ...], cure: str, tmp_path: Path) -> None:
    place = [str(tmp_path) if each == "." else each for each in arguments]
    result = run(*place)
    assert result.exit_code == 2
    assert cure in result.stderr


def test_a_file_that_cannot_be_written_is_told(store: Path) -> None:
    result = run("export", store, "-o", store / "no" / "such" / "folder.jsonl")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)
