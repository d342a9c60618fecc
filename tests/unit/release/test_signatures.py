"""A key is checked before anything is built, and what is signed says which commit and which locks a release was made from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from subterra_release import __main__ as command
from subterra_release import provenance
from subterra_release.__main__ import locked_files, main, sign_release
from subterra_release.release_error import ReleaseError
from subterra_release.signatures import Signer, checked_key
from subterra_testkit.repository import ROOT

PASSWORD = {"COSIGN_PASSWORD": ""}
DIGEST = "a" * 64
BUILD = provenance.Build("1.2.3", "r.example/a", "c0ffee", "https://git.example/subterra", {"uv.lock": "0" * 64}, {})
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "me/subterra",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_WORKFLOW_REF": "me/subterra/.github/workflows/release.yaml@refs/tags/v1.2.3",
}


@pytest.mark.parametrize(
    ("key", "environment", "words"),
    [
        ("cosign.key", {}, "KEY cosign.key is given and COSIGN_PASSWORD is not set; export it"),
        ("missing.key", PASSWORD, r"KEY missing.key: there is no such file; make a key with `cosign generate-key-pair`"),
        ("env://SIGNING_KEY", PASSWORD, "the variable SIGNING_KEY is not set; export the private key in it"),
        ("env://SIGNING_KEY", PASSWORD | {"SIGNING_KEY": ""}, "the variable SIGNING_KEY is not set"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(key: str, environment: Mapping[str, str], words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        checked_key(key, environment)


def test_a_key_comes_from_a_file_a_variable_or_a_key_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cosign.key").write_text("encrypted")
    monkeypatch.chdir(tmp_path)
    assert checked_key("cosign.key", PASSWORD) == str(tmp_path / "cosign.key")
    assert checked_key("env://SIGNING_KEY", PASSWORD | {"SIGNING_KEY": "encrypted"}) == "env://SIGNING_KEY"
    assert checked_key("awskms:///alias/subterra", {}) == "awskms:///alias/subterra"


def test_a_release_with_a_key_that_cannot_be_used_is_not_begun(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    target = tmp_path / "made"
    options = ["--registry", "r.example/a", "--key", "cosign.key", "--allow-changes", "--output", str(target)]
    assert main(["1.2.3", *options]) == 1
    assert "COSIGN_PASSWORD is not set" in capsys.readouterr().err
    assert not target.exists()


def test_a_release_without_a_key_says_that_nothing_is_signed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "images.json").write_text(json.dumps({"chart": "r.example/a/charts/subterra@sha256:1"}))
    monkeypatch.setattr(command, "release", lambda options: tmp_path)
    assert main(["1.2.3", "--registry", "r.example/a"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is signed: no KEY was given"
    assert main(["1.2.3", "--registry", "r.example/a", "--key", "cosign.key"]) == 0
    said = capsys.readouterr().out
    assert "chart: r.example/a/charts/subterra@sha256:1" in said
    assert "signed with cosign.key" in said


@dataclass(frozen=True)
class NotedSigner(Signer):
    """Notes what it is asked for instead of asking cosign."""

    asked: list[tuple[str, ...]] = field(default_factory=list)

    def _run(self, command: str, *words: str | Path) -> None:
        self.asked.append((command, *map(str, words)))
        for name in ("--statement", "--predicate"):
            if name in words:
                json.loads(Path(words[words.index(name) + 1]).read_text())


def test_every_file_and_everything_pushed_is_signed_and_what_was_built_here_attested(tmp_path: Path) -> None:
    by = NotedSigner(Path("cosign"), "env://KEY", plain_http=True)
    (tmp_path / "operator.cdx.json").write_text("{}")
    pushed = {name: f"r.example/a/{name}@sha256:{DIGEST}" for name in ("operator", "jobs", "chart")}
    build = replace(BUILD, given_images={"jobs": pushed["jobs"]})
    sign_release(tmp_path, {"a.tgz": DIGEST, "operator.cdx.json": DIGEST}, pushed, build, by)
    assert [words[-1] for words in by.asked if words[0] == "sign-blob"] == [
        str(tmp_path / name) for name in ("a.tgz", "operator.cdx.json", "SHA256SUMS")
    ]
    assert [words[1:] for words in by.asked if words[0] == "sign"] == [("--allow-http-registry", each) for each in pushed.values()]
    attested = [(words[3], words[-1]) for words in by.asked if words[0] == "attest"]
    assert attested == [
        ("slsaprovenance1", pushed["operator"]),
        ("cyclonedx", pushed["operator"]),
        ("slsaprovenance1", pushed["chart"]),
    ]


def test_provenance_names_commit_and_locks_and_is_the_same_each_time() -> None:
    made = provenance.predicate(BUILD, {})
    assert made == provenance.predicate(BUILD, {})
    assert made["buildDefinition"]["externalParameters"] == {"version": "1.2.3", "registry": "r.example/a"}
    assert made["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://git.example/subterra", "digest": {"gitCommit": "c0ffee"}},
        {"name": "uv.lock", "digest": {"sha256": "0" * 64}},
    ]
    assert made["runDetails"] == {"builder": {"id": "https://subterra.dev/release/make"}}


def test_provenance_of_a_workflow_names_the_workflow_and_its_run() -> None:
    details = provenance.predicate(BUILD, GITHUB)["runDetails"]
    assert details["builder"]["id"] == "https://github.com/me/subterra/.github/workflows/release.yaml@refs/tags/v1.2.3"
    assert details["metadata"]["invocationId"] == "https://github.com/me/subterra/actions/runs/7/attempts/2"


def test_a_statement_has_every_file_as_its_subject() -> None:
    made = provenance.statement({"b": "1" * 64, "a": "0" * 64}, provenance.predicate(BUILD, {}))
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["subject"] == [{"name": "a", "digest": {"sha256": "0" * 64}}, {"name": "b", "digest": {"sha256": "1" * 64}}]


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/me/subterra.git", "https://github.com/me/subterra"),
        ("https://me:token@git.example:8443/a/b/", "https://git.example:8443/a/b"),
        ("git@github.com:me/subterra.git\n", "https://github.com/me/subterra"),
        ("ssh://git@git.example/me/subterra", "https://git.example/me/subterra"),
        ("/srv/git/subterra", None),
        ("", None),
    ],
)
def test_the_source_is_named_without_credentials_and_local_paths(remote: str, address: str | None) -> None:
    assert provenance.public_address(remote) == address


def test_locks_of_packages_and_of_bundled_models_are_part_of_the_provenance() -> None:
    locked = locked_files(ROOT)
    assert locked["uv.lock"] == hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()
    assert "images/jobs/models/requirements.txt" in locked
