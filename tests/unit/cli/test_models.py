"""`subterra models`: the list, and its refresh over the wire with the providers' own SDKs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from subterra_cli.main import app
from subterra_core.hosted_models.catalog import HostedModel, parse_table
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.fake_model_lists import EFFORTS, ModelLists, anthropic_entry, fake_model_lists, openai_entry

TABLE = ROOT / "core/subterra_core/hosted_models/models.yaml"
SONNET = anthropic_entry("claude-sonnet-5-5", efforts=EFFORTS, thinking=("adaptive", "between_tools"))


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelLists]:
    """Both providers' lists, without a key."""
    with fake_model_lists() as served:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", served.url)
        monkeypatch.setenv("OPENAI_BASE_URL", served.url)
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        yield served


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the list."""
    return Path(shutil.copy(TABLE, tmp_path / "models.yaml"))


def models(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def entry(file: Path, name: str) -> HostedModel:
    return next(model for model in parse_table(file.read_text()) if model.name == name)


def test_the_list_has_prices_states_dates_and_replacements() -> None:
    rows = models().output.splitlines()
    [old] = [row for row in rows if row.startswith("gpt-4.1 ")]
    assert old.split() == ["gpt-4.1", "$2", "$0.5", "$8", "50%", "deprecated", "2027-01-14", "gpt-6-luna"]
    [sonnet] = [row for row in rows if row.startswith("claude-sonnet-4-6 ")]
    assert sonnet.split()[5:] == ["active", "not", "before", "2027-02-17", "claude-sonnet-5-5"]
    assert not [row for row in rows if " retired " in row]


def test_retired_models_are_listed_on_request_and_data_has_everything() -> None:
    assert "o4-mini" not in models().output
    assert "o4-mini" in models("--all").output
    [luna] = [each for each in json.loads(models("-o", "json").output) if each["name"] == "gpt-6-luna"]
    assert luna["thinking"]["efforts"][0] == "none"
    assert luna["usdPerMillion"]["cacheRead"] == "0.01"
    assert luna["source"].startswith("https://")


def test_a_refresh_writes_what_both_providers_list(lists: ModelLists, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    last_day = "2026-11-24T09:00:00Z"
    gone = anthropic_entry("claude-opus-4-5-20251101", "retired", last_day, efforts=EFFORTS[:3], thinking=("disabled",))
    lists.anthropic = [SONNET, anthropic_entry("claude-haiku-6", "active"), gone]
    lists.openai = [openai_entry("gpt-6-luna", "2027-09-01"), openai_entry("gpt-7-sol"), openai_entry("gpt-image-3")]
    done = models("refresh", "--file", str(file))
    assert done.exit_code == 0, done.output
    assert "gpt-6-luna: retiresOn was none, is 2027-09-01" in done.output
    assert "claude-opus-4-5: state was active, is retired" in done.output
    assert "listed, but without an entry and a price here: claude-haiku-6, gpt-7-sol\n" in done.output
    assert "claude-sonnet-4-5: its provider does not list it any more" in done.output
    assert (entry(file, "gpt-6-luna").state, entry(file, "claude-opus-4-5").state) == ("deprecated", "retired")
    assert entry(file, "claude-sonnet-5-5") == entry(TABLE, "claude-sonnet-5-5")
    assert models("refresh", "--file", str(file)).output.splitlines()[-1] == "nothing has changed"
    assert len([path for path in lists.asked if "after_id" in path]) == 2, "the second page of each refresh"


def test_a_check_changes_nothing_and_fails(lists: ModelLists, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    lists.openai = [openai_entry("gpt-6-luna", "2027-09-01")]
    assert models("refresh", "--check", "--file", str(file)).exit_code == 1
    assert file.read_text() == TABLE.read_text()
    assert len(lists.asked) == 1, "Anthropic is not asked without a key"


@pytest.mark.parametrize(
    ("key", "problem"),
    [(None, "no key is set; set one of ANTHROPIC_API_KEY and OPENAI_API_KEY"), ("wrong", "OpenAI did not list its models (")],
)
def test_a_refresh_without_a_valid_key_says_which_to_set(
    lists: ModelLists, file: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, problem: str
) -> None:
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    done = models("refresh", "--file", str(file))
    assert done.exit_code == 2
    assert problem in done.output
    assert "OPENAI_API_KEY" in done.output
    assert file.read_text() == TABLE.read_text()


def test_a_broken_file_is_named(lists: ModelLists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    broken = tmp_path / "models.yaml"
    broken.write_text("models: [{name: x}]")
    done = models("refresh", "--file", str(broken))
    assert done.exit_code == 2
    assert str(broken) in done.output
