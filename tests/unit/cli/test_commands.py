"""Every command explains itself, starts light, and is a kubectl plugin too."""

import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_testkit.repository import ROOT

COMMANDS = [
    ["lint"],
    ["init"],
    ["edit"],
    ["status"],
    ["why"],
    ["report"],
    ["approve"],
    ["rollback"],
    ["graph"],
    ["paths"],
    ["diff"],
    ["import", "langgraph"],
    ["dataset", "export"],
    ["dataset", "show"],
    ["watch"],
    ["chat"],
    ["plan"],
    ["sample"],
]
HEAVY = {"kubernetes", "fsspec", "pyarrow", "subterra_jobs", "networkx", "langgraph", "pydantic", "yaml", "httpx", "rich"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(command: list[str]) -> None:
    told = CliRunner().invoke(app, [*command, "--help"]).output
    assert f"Example: subterra {' '.join(command)} " in " ".join(told.split())


def test_help_documents_the_exit_codes() -> None:
    told = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert all(words in told for words in ("Exit codes: 0 success", "1 negative result (lint found errors", "2 error (usage"))


def test_starting_imports_nothing_heavy() -> None:
    """What `--help` imports is what every command waits for."""
    program = "import sys; from subterra_cli.main import app; app(['--help'], standalone_mode=False); print('LOADED', *sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in told.partition("LOADED ")[2].split()}
    assert not loaded & HEAVY


@pytest.mark.parametrize("module", ["subterra_cli", "subterra_cli.main"])
def test_the_package_runs_as_a_module(module: str) -> None:
    result = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("Usage: subterra [OPTIONS] COMMAND")


def test_the_command_is_a_kubectl_plugin() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-subterra"] == scripts["subterra"] == "subterra_cli.main:app"


def test_wrong_use_exits_with_2() -> None:
    assert CliRunner().invoke(app, ["graph", "file.yaml", "-o", "pdf"]).exit_code == 2
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2
