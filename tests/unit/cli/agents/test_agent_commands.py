"""`status`, `report`, `approve`, `rollback` and `reevaluate` against a pretended cluster."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from subterra_cli import cluster
from subterra_cli.agents import report_file
from subterra_cli.main import app

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def agent(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "travel", "namespace": "demo"}, "spec": {}, "status": status}


SERVING = {"version": "1111", "modelDigest": OLD, "modelPath": "models/1"}
PASSED = {"run": "travel-2", "modelDigest": NEW, "verdict": {"result": "Pass", "reasons": []}}


class PretendedCluster:
    """Answers as `ResourceReader` does, and keeps what is patched."""

    def __init__(self, *objects: tuple[str, dict[str, Any]], pods: tuple[dict[str, Any], ...] = ()) -> None:
        self.objects, self._pods = objects, pods
        self.patched: list[dict[str, Any]] = []
        self.target = cluster.ClusterTarget("demo")

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        return next((found for kind, found in self.objects if (kind, found["metadata"]["name"]) == (plural, name)), None)

    def now(self) -> datetime:
        return datetime(2026, 11, 29, 12, tzinfo=UTC)

    def all_of(self, plural: str) -> list[dict[str, Any]]:
        return [found for kind, found in self.objects if kind == plural]

    def pods(self, selector: str) -> list[dict[str, Any]]:
        return [*self._pods]

    def patch(self, plural: str, name: str, body: dict[str, Any]) -> None:
        self.patched.append(body)


def run(monkeypatch: pytest.MonkeyPatch, pretended: PretendedCluster, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(cluster, "ResourceReader", lambda target: pretended)
    result = CliRunner().invoke(app, [*words, "-n", "demo"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_status_shows_all_agents_and_both_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    price = {"usdPerConversation": "0.00001", "usdPerConversationWithIdle": "0.000434"}
    pretended = PretendedCluster(("compiledagents", agent(phase="Serving", serving=SERVING, price=price)))
    code, said = run(monkeypatch, pretended, "status")
    assert code == 0
    assert all(word in said for word in ("travel", "1111", "Serving", "0.00001", "0.000434"))
    data = json.loads(run(monkeypatch, pretended, "status", "travel", "-o", "json")[1])
    assert (data[0]["serving"], data[0]["usdPerConversationWithIdle"]) == ("1111", "0.000434")


def test_status_of_an_empty_namespace_says_how_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, PretendedCluster(), "status") == (
        0,
        "no CompiledAgents in namespace demo; write one with: subterra init\n",
    )


def test_an_agent_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("status", "approve", "rollback", "reevaluate", "why"):
        code, said = run(monkeypatch, PretendedCluster(), command, "travel")
        assert (code, said.startswith("CompiledAgent travel not found in namespace demo")) == (2, True)


def test_approve_pins_a_candidate_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = PretendedCluster(("compiledagents", agent(serving=SERVING, candidate=PASSED)))
    code, said = run(monkeypatch, pretended, "approve", "travel")
    assert (code, pretended.patched) == (0, [{"spec": {"promotion": {"pin": NEW}}}])
    assert "traffic moves to the candidate of run travel-2, verdict Pass" in said


def test_approve_takes_a_candidate_that_did_not_pass_only_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rejected = {**PASSED, "verdict": {"result": "Fail", "reasons": ["conformance 0.6"]}}
    pretended = PretendedCluster(("compiledagents", agent(serving=SERVING, candidate=rejected)))
    code, said = run(monkeypatch, pretended, "approve", "travel")
    assert (code, pretended.patched, "verdict: Fail: conformance 0.6" in said) == (2, [], True)
    assert run(monkeypatch, pretended, "approve", "travel", "--although-it-did-not-pass")[0] == 0
    assert pretended.patched == [{"spec": {"promotion": {"pin": NEW}}}]


def test_approve_without_a_new_candidate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for candidate, words in [({}, "has no candidate with a model"), ({"modelDigest": OLD}, "serves this candidate already")]:
        pretended = PretendedCluster(("compiledagents", agent(serving=SERVING, candidate=candidate)))
        code, said = run(monkeypatch, pretended, "approve", "travel")
        assert (code, words in said) == (2, True)


def test_rollback_goes_to_the_version_before_or_to_a_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    history = [SERVING, {"version": "2222", "modelDigest": NEW, "since": "yesterday"}]
    pretended = PretendedCluster(("compiledagents", agent(serving=SERVING, history=history)))
    assert run(monkeypatch, pretended, "rollback", "travel")[0] == 0
    assert run(monkeypatch, pretended, "rollback", "travel", "--to", "2222")[0] == 0
    assert pretended.patched == [{"spec": {"promotion": {"pin": NEW}}}] * 2
    code, said = run(monkeypatch, pretended, "rollback", "travel", "--to", "3333")
    assert (code, said) == (2, "CompiledAgent travel has no earlier version 3333 to go back to; it has 2222\n")


def test_a_dry_run_prints_what_to_commit_and_a_gitops_tool_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = agent(serving=SERVING, candidate=PASSED)
    kept["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    pretended = PretendedCluster(("compiledagents", kept))
    assert run(monkeypatch, pretended, "approve", "travel", "--dry-run") == (0, f"spec:\n  promotion:\n    pin: {NEW}\n")
    assert pretended.patched == []
    assert "undoes this; commit:" in run(monkeypatch, pretended, "approve", "travel")[1]


def test_reevaluate_asks_for_it_as_of_now_and_says_how_to_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = PretendedCluster(("compiledagents", agent(serving=SERVING)))
    code, said = run(monkeypatch, pretended, "reevaluate", "travel")
    annotations = {"subterra.dev/reevaluate-at": "2026-11-29T12:00:00Z"}
    assert (code, pretended.patched) == (0, [{"metadata": {"annotations": annotations}}])
    assert said == (
        "CompiledAgent travel: version 1111 is evaluated again and goes on serving. Follow it with: subterra watch travel -n demo\n"
    )


def test_reevaluate_without_a_version_that_serves_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = PretendedCluster(("compiledagents", agent()))
    code, said = run(monkeypatch, pretended, "reevaluate", "travel")
    assert (code, pretended.patched, "serves no version; follow its compilation" in said) == (2, [], True)


def serving_pod(mount: str = "/store") -> dict[str, Any]:
    return {
        "metadata": {"name": "travel-1111-x"},
        "spec": {"containers": [{"name": "vllm", "volumeMounts": [{"mountPath": mount}]}]},
        "status": {"containerStatuses": [{"name": "vllm", "state": {"running": {}}}]},
    }


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that says what it was asked, and is the only program on PATH."""
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(report_file, "kubectl_path", lambda: str(program))
    monkeypatch.chdir(tmp_path)
    return program


RUN = {"metadata": {"name": "travel-2"}, "spec": {}, "status": {"artifacts": {"reportPath": "reports/k"}}}


def test_a_report_is_read_through_a_pod_that_mounts_the_store(monkeypatch: pytest.MonkeyPatch, kubectl: Path) -> None:
    pretended = PretendedCluster(("compiledagents", agent(currentRun="travel-2")), ("compileruns", RUN), pods=(serving_pod(),))
    code, said = run(monkeypatch, pretended, "report", "travel", "--no-open")
    assert (code, said) == (0, "travel-report.html: report of run travel-2\n")
    asked = "--namespace demo exec travel-1111-x --container vllm -- cat /store/reports/k/report.html\n"
    assert Path("travel-report.html").read_text() == asked


def test_standard_output_has_the_report_alone(monkeypatch: pytest.MonkeyPatch, kubectl: Path) -> None:
    pretended = PretendedCluster(("compileruns", RUN), pods=(serving_pod(),))
    monkeypatch.setattr("subterra_cli.cluster.ResourceReader", lambda target: pretended)
    result = CliRunner().invoke(app, ["report", "travel-2", "--namespace", "demo", "-o", "-"])
    asked = "--namespace demo exec travel-1111-x --container vllm -- cat /store/reports/k/report.html\n"
    assert (result.stdout, result.stderr, Path("-").exists()) == (asked, "-: report of run travel-2\n", False)


def test_without_a_pod_or_a_report_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, kubectl: Path) -> None:
    pretended = PretendedCluster(("compileruns", RUN), pods=(serving_pod("/elsewhere"),))
    code, said = run(monkeypatch, pretended, "report", "travel-2", "--no-open")
    assert (code, "no pod runs in namespace demo that mounts the store" in said) == (1, True)
    bare = {**RUN, "status": {"phase": "Training"}}
    code, said = run(monkeypatch, PretendedCluster(("compileruns", bare)), "report", "travel-2", "--no-open")
    assert (code, "CompileRun travel-2 has no report yet (phase Training)" in said) == (1, True)
    code, said = run(monkeypatch, PretendedCluster(), "report", "travel", "--no-open")
    assert (code, said.startswith("no CompiledAgent and no CompileRun travel in namespace demo")) == (1, True)
