"""What Argo CD and Flux say of every state that the operator writes, asked of their own interpreters."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from tests.golden import argocd
from tests.tools.gitops_health.build import Oracle
from tests.unit.operator.test_kstatus import CASES, Case

from subterra_testkit.cluster.kubernetes_objects import ROOT

FLUX = ROOT / "gitops/flux/kustomization.yaml"
Ask = Callable[..., Oracle]
LIVING = [(title, case) for title, wanted, case in CASES if wanted != "Terminating"]
"""Argo CD asks no script about what is being deleted."""


@pytest.mark.parametrize(("title", "case"), LIVING, ids=[title for title, _ in LIVING])
def test_argo_cd_reads_every_state_right(oracle: Ask, title: str, case: Case) -> None:
    obj = case()
    status, message = oracle("lua", ROOT / argocd.script(obj["kind"]))(obj)
    assert (status, bool(message)) == (argocd.wanted(title), True), message


@pytest.mark.parametrize("kind", argocd.KINDS)
def test_what_no_operator_has_looked_at_is_progressing(oracle: Ask, kind: str) -> None:
    new = {"apiVersion": "subterra.dev/v1alpha1", "kind": kind, "metadata": {"name": "new", "generation": 1}, "spec": {}}
    for status in ({}, {"status": {"observedGeneration": -1}}):
        assert oracle("lua", ROOT / argocd.script(kind))({**new, **status})[0] == "Progressing"


TESTS = [
    (path.parent, test)
    for path in sorted((ROOT / "gitops/argocd").rglob("health_test.yaml"))
    for test in yaml.safe_load(path.read_text())["tests"]
]


@pytest.mark.parametrize(("folder", "test"), TESTS, ids=[f"{folder.name}/{Path(test['inputPath']).stem}" for folder, test in TESTS])
def test_the_test_data_pass_as_they_would_in_argo_cd(oracle: Ask, folder: Path, test: dict[str, dict[str, str]]) -> None:
    obj = yaml.safe_load((folder / str(test["inputPath"])).read_text())
    status, message = oracle("lua", folder / "health.lua")(obj)
    assert {"status": status, "message": message} == test["healthStatus"]


def test_the_test_data_are_what_the_operator_writes(oracle: Ask) -> None:
    made = argocd.files(oracle)
    stale = [str(path) for path, text in made.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    assert not stale, "run `make golden` and look at the diff"
    found = {path.relative_to(ROOT) for path in (ROOT / argocd.FOLDER / "resource_customizations").rglob("*.yaml")}
    assert found == made.keys() - {argocd.FOLDER / "argocd-cm.yaml"}


def test_a_rejected_candidate_is_healthy_with_a_message_and_a_failed_first_compile_is_degraded(oracle: Ask) -> None:
    case = cache(lambda title: argocd.BY_TITLE[title][1]())
    ask = oracle("lua", ROOT / argocd.script("CompiledAgent"))
    status, message = ask(case("agent: serves, the candidate was rejected"))
    assert status == "Healthy" and "is not promoted" in message
    status, message = ask(case("agent: its first run failed"))
    assert status == "Degraded" and "failed: train" in message


@pytest.mark.parametrize(("title", "case"), LIVING, ids=[title for title, _ in LIVING])
def test_the_expressions_for_flux_say_what_kstatus_says(oracle: Ask, title: str, case: Case) -> None:
    obj = case()
    assert oracle("cel", FLUX)(obj)[0] == oracle("kstatus")(obj)[0] == argocd.BY_TITLE[title][0]
