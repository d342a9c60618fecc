"""A promotion is a commit that copies what staging has exported, and only that."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_testkit.repository import ROOT

MODEL, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
URI = f"oci://registry.example/agents/helpdesk@sha256:{'c' * 64}"
EXPORTED = {"uri": URI, "modelDigest": MODEL, "run": "helpdesk-1"}
WORDS = "registry registry.example asks for a password"
KUBECTL = """#!/usr/bin/env python3
import json, os, re, sys
path = re.fullmatch(r"jsonpath=\\{\\.status\\.(.*)\\}", sys.argv[-1])[1]
value = json.loads(os.environ["STATUS"])
if path.startswith("conditions"):
    value = value["words"]
else:
    for part in path.split("."):
        value = value.get(part, "") if value else ""
print(value, end="")
"""


class Repository:
    """A repository with the example, and a kubectl that tells a status."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder / "repository", folder / "repository/production/agent.yaml"
        shutil.copytree(ROOT / "examples/gitops", self.folder)
        (folder / "bin").mkdir()
        (folder / "bin/kubectl").write_text(KUBECTL)
        (folder / "bin/kubectl").chmod(0o755)
        names = {f"GIT_{who}_{what}": "tester@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.variables = {**os.environ, **names, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
            self.git(*words)

    def git(self, *words: str) -> str:
        line = ["git", "-C", self.folder, *words]
        return subprocess.run(line, env=self.variables, check=True, capture_output=True, text=True).stdout

    def promote(self, **status: object) -> "subprocess.CompletedProcess[str]":
        variables = {**self.variables, "STATUS": json.dumps({"words": WORDS, **status})}
        line = [ROOT / "gitops/promote.sh", "helpdesk", "staging", self.file]
        return subprocess.run(line, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_promotion_is_a_commit_of_two_lines_and_a_valid_agent(repository: Repository) -> None:
    done = repository.promote(exported=EXPORTED, serving={"modelDigest": MODEL})
    assert done.returncode == 0, done.stderr
    assert repository.git("log", "-1", "--format=%s") == "Promote helpdesk to the model of run helpdesk-1\n"
    assert repository.git("show", "--stat", "--format=").split("|")[1].split()[0] == "4", "two lines go, two come"
    model = CompiledAgentSpec.model_validate(yaml.safe_load(repository.file.read_text())["spec"]).model
    assert model and (model.uri, model.digest) == (URI, MODEL)
    assert "promotes helpdesk-1 already" in repository.promote(exported=EXPORTED, serving={"modelDigest": MODEL}).stdout


@pytest.mark.parametrize("status", [{}, {"exported": EXPORTED}, {"exported": EXPORTED, "serving": {"modelDigest": OTHER}}])
def test_what_is_not_exported_is_not_promoted(repository: Repository, status: dict[str, object]) -> None:
    done = repository.promote(**status)
    assert done.returncode == 1
    assert WORDS in done.stderr
    assert repository.git("status", "--porcelain") == ""


def test_the_example_is_what_the_api_accepts() -> None:
    for name in ("staging", "production"):
        spec = CompiledAgentSpec.model_validate(yaml.safe_load((ROOT / f"examples/gitops/{name}/agent.yaml").read_text())["spec"])
        assert spec.promotion.export if name == "staging" else spec.model
