"""What Argo CD is given: test data in its layout, made of the statuses that the operator writes, and its ConfigMap's patch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.tools.gitops_health.build import Oracle
from tests.unit.operator.test_kstatus import CASES

from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import ROOT

FOLDER = Path("gitops/argocd")
KINDS = ("Procedure", "CompileRun", "CompiledAgent")
SUSPENDED = {
    "agent: its first candidate awaits approval",
    "agent: nothing serves and the manual trigger is awaited",
    "agent: nothing serves and compilation is suspended",
    "agent: nothing serves and its run is suspended",
    "run: suspended",
    "run: superseded",
}
"""Stopped because a person wanted it so: Argo CD has a word for that."""
HEALTH = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}
EXAMPLES = {
    "CompiledAgent": {
        "progressing_first_run.yaml": "agent: its first run is at work",
        "progressing_edited.yaml": "an agent that was just edited",
        "degraded_first_run_failed.yaml": "agent: its first run failed",
        "degraded_first_candidate_rejected.yaml": "agent: its first candidate was rejected",
        "degraded_no_procedure.yaml": "agent: there is no such procedure",
        "suspended_awaiting_approval.yaml": "agent: its first candidate awaits approval",
        "healthy_serving.yaml": "agent: up to date",
        "healthy_recompiling.yaml": "agent: serves and recompiles",
        "healthy_candidate_rejected.yaml": "agent: serves, the candidate was rejected",
        "healthy_run_failed.yaml": "agent: serves, the new run failed",
    },
    "CompileRun": {
        "progressing_training.yaml": "run: is at work",
        "degraded_failed.yaml": "run: failed for good",
        "suspended.yaml": "run: suspended",
        "suspended_superseded.yaml": "run: superseded",
        "healthy_passed.yaml": "run: judged and passed",
        "healthy_rejected.yaml": "run: judged and rejected",
    },
    "Procedure": {
        "healthy_accepted.yaml": "procedure: accepted",
        "degraded_invalid.yaml": "procedure: invalid",
        "progressing_waiting.yaml": "procedure: waits for one that it calls",
    },
}
Case = Callable[[], Object]
BY_TITLE: dict[str, tuple[str, Case]] = {title: (wanted, case) for title, wanted, case in CASES}


def script(kind: str) -> Path:
    """Where a kind's health.lua is, relative to the repository."""
    return FOLDER / "resource_customizations/subterra.dev" / kind / "health.lua"


def wanted(title: str) -> str:
    """What Argo CD should say about a state."""
    return "Suspended" if title in SUSPENDED else HEALTH[BY_TITLE[title][0]]


def files(ask: Callable[[str, Path], Oracle]) -> dict[Path, str]:
    """Every generated file with its content; the messages are those of the scripts."""
    result = {FOLDER / "argocd-cm.yaml": _config_map()}
    for kind, examples in EXAMPLES.items():
        tests = []
        for name, title in examples.items():
            obj = BY_TITLE[title][1]()
            _, message = ask("lua", ROOT / script(kind))(obj)
            tests.append({"healthStatus": {"status": wanted(title), "message": message}, "inputPath": f"testdata/{name}"})
            result[script(kind).parent / "testdata" / name] = _yaml(_short(obj))
        result[script(kind).with_name("health_test.yaml")] = _yaml({"tests": tests})
    return result


def _short(obj: Object) -> Object:
    """Without the flowchart: health is read from the status."""
    return {**obj, "spec": {key: value for key, value in obj["spec"].items() if key not in ("nodes", "variables", "openers")}}


def _config_map() -> str:
    data = {f"resource.customizations.health.subterra.dev_{kind}": (ROOT / script(kind)).read_text() for kind in KINDS}
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}, "data": data}
    use = "kubectl patch configmap argocd-cm --namespace argocd --patch-file gitops/argocd/argocd-cm.yaml"
    return f"# Generated from the health.lua files by `make golden`. Do not edit. To use it: {use}\n{_yaml(patch)}"


class _Plain(yaml.SafeDumper):
    """Scripts as blocks, nothing by anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Plain.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=130, allow_unicode=True)
