"""`export` and `provenance` against a pretended cluster."""

from typing import Any

import pytest
from tests.unit.cli.agents.test_agent_commands import PretendedCluster, run

from subterra_api.job_contract.model_transfer import Provenance
from subterra_api.v1alpha1.scores import Verdict
from subterra_cli.agents import report_file
from subterra_jobs.store.registry.signing import envelope
from subterra_jobs.store.registry.statement import statement

MODEL, DATASET, REPORT, PROCEDURE = (f"sha256:{letter * 64}" for letter in "abcd")
TO, ARTIFACT = "oci://registry.example/agents/travel", f"sha256:{'9' * 64}"
URI = f"{TO}@{ARTIFACT}"
SERVING = {"version": "1a2b3c4d", "modelDigest": MODEL, "modelPath": "models/1", "run": "travel-1", "since": "2026-11-20T12:00:00Z"}
EXPORTED = {"uri": URI, "modelDigest": MODEL, "run": "travel-1", "to": TO, "signedWith": "promoter"}
COMPILED: dict[str, Any] = {
    "metadata": {"name": "travel-1"},
    "spec": {"inputs": {"procedureRef": {"name": "travel"}, "baseModel": {"uri": "scratch"}}},
    "status": {
        "procedureDigest": PROCEDURE,
        "verdict": {"result": "Pass", "reasons": ["conformant 96 %"]},
        "artifacts": {"dataset": DATASET, "model": MODEL, "report": REPORT, "modelPath": "models/1"},
    },
}
SAID = Provenance(
    agent="travel",
    namespace="staging",
    procedure="travel",
    procedure_digest=PROCEDURE,
    run="travel-1",
    base_model="scratch",
    dataset=DATASET,
    model=MODEL,
    verdict=Verdict(result="Pass", reasons=("conformant 96 %",)),
)


def condition(reason: str, status: str = "False", message: str = "because") -> dict[str, Any]:
    return {"type": "Exported", "reason": reason, "status": status, "message": message}


def agent(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "travel", "namespace": "demo", "generation": 2},
        "spec": spec or {"compile": {"procedureRef": {"name": "travel"}}},
        "status": {"observedGeneration": 2, "serving": SERVING, **status},
    }


def cluster_with(found: dict[str, Any], made: dict[str, Any] | None = COMPILED) -> PretendedCluster:
    return PretendedCluster(("compiledagents", found), *([("compileruns", made)] if made else []))


def test_export_sets_the_field_waits_and_prints_what_production_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = cluster_with(agent(exported=EXPORTED, conditions=[condition("Exported", "True")]))
    words = ("export", "travel", "--to", TO, "--signing-secret", "promoter")
    code, said = run(monkeypatch, pretended, *words)
    assert (code, said) == (0, f"model:\n  uri: {URI}\n  digest: {MODEL}\n")
    wanted = {"to": TO, "signingSecret": {"name": "promoter"}, "registrySecret": None}
    assert pretended.patched == [{"spec": {"promotion": {"export": wanted}}}]


def test_export_prints_what_to_commit_and_says_so_where_git_keeps_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = cluster_with(agent(exported=EXPORTED, conditions=[condition("Exported", "True")]))
    code, said = run(monkeypatch, pretended, "export", "travel", "--to", TO, "--dry-run")
    assert (code, said, pretended.patched) == (0, f"spec:\n  promotion:\n    export:\n      to: {TO}\n", [])
    pretended.objects[0][1]["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "x"}
    assert "A GitOps tool keeps this agent as it is in Git" in run(monkeypatch, pretended, "export", "travel", "--to", TO)[1]


NOT_EXPORTED = {
    "a push that failed": (condition("ExportFailed", message="401; correct the Secret"), 1, "401; correct the Secret"),
    "nothing compiled": (condition("NothingToExport", message="nothing serves"), 1, "nothing serves"),
    "a push that takes longer": (condition("Exporting", "Unknown"), 1, "still on its way; see its condition Exported"),
}


@pytest.mark.parametrize("case", NOT_EXPORTED)
def test_export_says_why_a_model_is_not_in_the_registry(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    found, code, words = NOT_EXPORTED[case]
    ended, said = run(monkeypatch, cluster_with(agent(conditions=[found])), "export", "travel", "--to", TO, "--wait", "0")
    assert ended == code
    assert words in said


def test_a_place_that_is_none_is_refused_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(monkeypatch, cluster_with(agent()), "export", "travel", "--to", "registry.example/travel")
    assert code == 2
    assert "to registry.example/travel is invalid; write --to oci://registry.example/agents/travel" in said


def test_provenance_walks_from_the_procedure_to_the_serving_version(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(monkeypatch, cluster_with(agent(exported=EXPORTED)), "provenance", "travel")
    assert code == 0
    assert said.splitlines() == [
        f"procedure  travel  {PROCEDURE}",
        "run        travel-1",
        "base       scratch",
        f"dataset    {DATASET}",
        f"weights    models/1  {MODEL}",
        f"report     {REPORT}",
        "verdict    Pass: conformant 96 %",
        f"artifact   {URI}  signed with Secret promoter",
        "serving    version 1a2b3c4d since 2026-11-20T12:00:00Z",
    ]


def without(part: str) -> dict[str, Any]:
    status = dict(COMPILED["status"])
    if part == "verdict":
        status.pop("verdict")
    else:
        status["artifacts"] = {name: value for name, value in status["artifacts"].items() if name != part}
    return {**COMPILED, "status": status}


BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "nothing serves": (agent(serving=None), COMPILED, "serves nothing, so there is nothing to trace"),
    "the run is gone": (agent(), None, "CompileRun travel-1 is gone, and with it what is known"),
    "another model": (agent(serving={**SERVING, "modelDigest": REPORT}), COMPILED, f"run travel-1 made model {MODEL}, and"),
    "no dataset": (agent(), without("dataset"), "run travel-1 records no dataset"),
    "no verdict": (agent(), without("verdict"), "run travel-1 has no verdict"),
    "not exported": (agent(conditions=[condition("ExportFailed", message="no disk")]), COMPILED, "not in the registry: no disk"),
    "a volume": (agent({"model": {"uri": "pvc://m", "digest": MODEL}}), COMPILED, "nothing there says how the model was made"),
    "not served yet": (agent({"model": {"uri": URI, "digest": REPORT}}), COMPILED, f"{REPORT} is wanted, and {MODEL} is served"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_provenance_names_the_link_that_is_missing(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    found, made, words = BROKEN[case]
    code, said = run(monkeypatch, cluster_with(found, made), "provenance", "travel")
    assert code == 1
    assert words in said.splitlines()[-1]


def pulled(monkeypatch: pytest.MonkeyPatch, about: str = ARTIFACT, **model: Any) -> tuple[int, str]:
    """What is said of an agent that serves an artifact, in whose pod there is a statement about one."""
    content = envelope(statement("registry.example/agents/travel", about, SAID), None)
    monkeypatch.setattr(report_file, "fetch", lambda target, pods, path: content)
    found = agent({"model": {"uri": URI, "digest": MODEL, **model}}, serving={**SERVING, "run": None})
    return run(monkeypatch, cluster_with(found), "provenance", "travel")


def test_provenance_of_a_pulled_model_is_in_its_pods_and_says_whether_it_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = pulled(monkeypatch)
    assert code == 0
    assert f"procedure  travel  {PROCEDURE}" in said
    assert "run        travel-1 of CompiledAgent staging/travel" in said
    assert "statement  NOT VERIFIED: set spec.model.requireAttestation" in said
    assert "verified by each pod" in pulled(monkeypatch, requireAttestation={"publicKey": "x"})[1]


def test_a_statement_about_another_artifact_breaks_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = pulled(monkeypatch, about=REPORT)
    assert code == 1
    assert f"the attestation is about another artifact than {ARTIFACT}" in said
