"""`subterra init` writes a file that is valid, can be sampled and planned, and explains itself."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api import __version__
from subterra_cli.main import app
from subterra_testkit.repository import ROOT


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    code, said = run("init", "shop")
    assert (code, said) == (0, "shop.yaml written; next: subterra lint shop.yaml\n")
    return "shop.yaml"


def test_the_new_file_has_neither_errors_nor_warnings(file: str) -> None:
    code, said = run("lint", file)
    assert code == 0
    assert said.splitlines() == [
        "shop.yaml: shop: 6 nodes, 1 hub, 2 terminals, 2 paths of 3 to 5 turns",
        "shop.yaml: shop: no errors",
    ]


def test_the_new_file_can_be_planned_and_calls_nothing_paid(file: str) -> None:
    code, said = run("plan", file)
    assert code == 0, said
    assert "no paid API calls" in said


def test_the_sizes_of_its_training_are_those_that_the_page_about_it_has(file: str) -> None:
    page = (ROOT / "docs/getting-started/4-twenty-lines.md").read_text()
    training = json.loads(run("plan", file, "-o", "json")[1])["training"]
    memory, store = (size / 1e9 for size in (training["hostBytes"], training["storeBytes"]["total"]))
    assert f"up to {memory:.1f} GB of memory" in page
    assert f"and {store:.1f} GB of the store" in page


def test_every_example_of_the_new_file_is_said_in_its_sample(file: str) -> None:
    code, said = run("sample", file, "-n", "4")
    assert code == 0, said
    assert "Which day suits you?" in said
    assert "checks: nothing found" in said


def test_the_procedure_is_about_twenty_lines_with_comments(file: str) -> None:
    text = Path(file).read_text().partition("\n---\n")[0]
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) <= 25
    assert text.count("  # ") >= 4
    kinds = [document["kind"] for document in yaml.safe_load_all(Path(file).read_text())]
    assert kinds == ["Procedure", "CompiledAgent"]


def test_the_picture_in_the_readme_is_that_of_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make figure` writes it."""
    monkeypatch.chdir(tmp_path)
    run("init", "first")
    assert run("graph", "first.yaml", "-o", "svg")[1] == (ROOT / "docs/first-agent.svg").read_text()


def test_no_file_is_overwritten(file: str) -> None:
    Path(file).write_text("mine")
    code, said = run("init", "shop")
    assert (code, "shop.yaml exists already" in said, Path(file).read_text()) == (2, True, "mine")


def test_standard_output_has_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("init", "shop", "-o", "-")
    assert (code, [*tmp_path.iterdir()]) == (0, [])
    run("init", "shop")
    assert said == Path("shop.yaml").read_text()


@pytest.mark.parametrize("name", ["Shop", "a" * 41, "1st", "../shop", ""])
def test_a_name_that_no_agent_can_have_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("init", name)
    assert (code, "cannot be the name of an agent; use at most 40 lowercase" in said, [*tmp_path.iterdir()]) == (2, True, [])


def test_the_version_is_that_of_the_package() -> None:
    assert run("version") == (0, f"subterra {__version__} (subterra.dev/v1alpha1)\n")


def test_shells_can_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SUBTERRA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "subterra gr")
    monkeypatch.setenv("COMP_CWORD", "1")
    result = CliRunner().invoke(app, [], prog_name="subterra")
    assert result.output.split() == ["graph"]
