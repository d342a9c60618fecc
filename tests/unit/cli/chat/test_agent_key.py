"""`subterra chat` with an agent that demands an API key."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from subterra_cli import cluster
from subterra_cli.cluster import ClusterTarget
from subterra_cli.main import app
from subterra_testkit.cluster.fake_reader import FakeReader
from subterra_testkit.procedures import branch, shop
from subterra_testkit.servers.fake_llm_api import BAD_KEY, FakeLLMApi, fake_llm_api

NAMED = {"apiKeySecret": {"name": "shop-key"}}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBTERRA_API_KEY", raising=False)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    """An agent whose Secret the user may read."""
    fake = FakeReader(shop(branch("sell", "Tea, please.")))
    fake.agent["spec"]["serving"] = NAMED
    fake.secrets["shop-key", "apiKey"] = "from-secret"
    monkeypatch.setattr(cluster, "ResourceReader", lambda target: fake)
    return fake


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, reader: FakeReader) -> Iterator[FakeLLMApi]:
    """An agent that notes which keys it is sent."""
    with fake_llm_api(FakeLLMApi(answer=lambda body: "Hello.")) as api:

        @contextmanager
        def forwarded(target: ClusterTarget, service: str, port: int) -> Iterator[str]:
            yield api.url

        monkeypatch.setattr(cluster, "port_forward", forwarded)
        yield api


def chat(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["chat", "shop", "-n", "demo", *arguments], input="Hi\n")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_key_is_read_from_the_secret_that_the_agent_names(keys: FakeLLMApi) -> None:
    assert chat().exit_code == 0
    assert keys.keys == {"from-secret"}


def test_a_variable_goes_before_the_secret_and_a_file_before_both(
    keys: FakeLLMApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBTERRA_API_KEY", "from-variable")
    chat()
    assert keys.keys == {"from-variable"}
    keys.keys.clear()
    file = tmp_path / "key"
    file.write_text("from-file\n")
    chat("--api-key-file", str(file))
    assert keys.keys == {"from-file"}


def test_an_agent_without_a_key_is_sent_none(keys: FakeLLMApi, reader: FakeReader) -> None:
    del reader.agent["spec"]["serving"]
    assert chat().exit_code == 0
    assert keys.keys == {""}


def test_who_may_not_read_the_secret_learns_how_to_give_the_key(keys: FakeLLMApi, reader: FakeReader) -> None:
    reader.secrets.clear()
    refused = chat()
    assert (refused.exit_code, keys.calls) == (1, 0)
    assert refused.stderr.startswith(
        "this agent demands an API key, and reading Secret shop-key failed: 404 Not Found; pass the key"
    )
    assert "--api-key-file FILE, or in the variable SUBTERRA_API_KEY" in refused.stderr


def test_a_refused_key_is_named_by_where_it_came_from_and_never_shown(keys: FakeLLMApi) -> None:
    keys.faults.append(BAD_KEY)
    refused = chat()
    assert refused.exit_code == 1
    assert "CompiledAgent shop refuses the API key of Secret shop-key (key apiKey) (401)" in refused.stderr
    assert "spec.serving.restartAt" in refused.stderr
    assert "from-secret" not in refused.output


def test_an_agent_that_asks_for_a_key_nobody_gave_says_so(keys: FakeLLMApi, reader: FakeReader) -> None:
    del reader.agent["spec"]["serving"]
    keys.faults.append(BAD_KEY)
    assert "CompiledAgent shop demands an API key (401); pass the key with --api-key-file" in chat().stderr


def test_an_empty_key_file_is_refused(keys: FakeLLMApi, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    assert "is empty; write the key into it" in chat("--api-key-file", str(tmp_path / "key")).stderr
    assert keys.calls == 0
