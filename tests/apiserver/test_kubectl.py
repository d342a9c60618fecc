"""What people and tools do with kubectl: bad files, the same files again, folders, upgrades of the CRDs with live objects."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.crd import all_crds
from subterra_cli.main import app
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import ROOT, TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

TEXT = (ROOT / "examples/travel/procedure.yaml").read_text()


def kubectl(plane: ControlPlane, world: ClusterNamespace, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "--namespace", world.namespace, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def edited(**changes: Any) -> str:
    """The travel procedure with other fields; None takes one out."""
    spec = {key: value for key, value in (TRAVEL["spec"] | changes).items() if value is not None}
    return yaml.safe_dump({**TRAVEL, "spec": spec}, allow_unicode=True)


def first(**changes: Any) -> str:
    """The travel procedure with another first node."""
    nodes = copy.deepcopy(TRAVEL["spec"]["nodes"])
    nodes[0] |= changes
    return edited(nodes=nodes)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "not YAML": ("{{{ not: yaml: [", "error parsing"),
    "wrong kind": (TEXT.replace("kind: Procedure", "kind: Procedur"), 'no matches for kind "Procedur"'),
    "unknown field": (edited(startt="greet"), 'unknown field "spec.startt"'),
    "wrong type": (first(maxVisits="two"), "spec.nodes[0].maxVisits in body must be of type integer"),
    "missing start": (edited(start=None), "spec.start: Required value"),
    "start to nowhere": (edited(start="elsewhere"), "spec.start is not the id of a node: set it to the id of one of spec.nodes"),
    "duplicate id": (edited(nodes=[*TRAVEL["spec"]["nodes"], TRAVEL["spec"]["nodes"][0]]), 'Duplicate value: {"id":"greet"}'),
    "a prompt of 10 MB": (first(prompt="a" * 10_000_000), "Request entity too large"),
    "a non-ASCII id": (first(id="grüß"), "spec.nodes[0].id in body should match"),
    "2,000 edges": (first(next=[{"to": "destination"}] * 2000), "spec.nodes[0].next: Too many: 2000: must have at most 20 items"),
    "a YAML bomb": (BOMB + TEXT, "excessive aliasing"),
    "tabs": (TEXT.replace("  start: greet", "\tstart: greet"), "found a tab character"),
    "nothing": ("", "no objects passed"),
}
ACCEPTED = {
    "anchors": TEXT.replace("start: greet", "start: &start greet"),
    "BOM": "\ufeff" + TEXT,
    "CRLF": TEXT.replace("\n", "\r\n"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_file_is_refused_by_one_clear_message(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    done = kubectl(plane, quiet, "create", "--dry-run=server", "--filename", tmp_path / "bad.yaml")
    assert done.returncode == 1 and words in done.stderr
    assert len(done.stderr) < 1000 and "goroutine" not in done.stderr


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_is_only_unusual_is_accepted(quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, text: str) -> None:
    (tmp_path / "good.yaml").write_bytes(text.encode())
    done = kubectl(plane, quiet, "create", "--dry-run=server", "--filename", tmp_path / "good.yaml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", [[], ["--server-side"]], ids=["client side", "server side"])
async def test_the_same_files_again_change_nothing(quiet: ClusterNamespace, plane: ControlPlane, how: list[str]) -> None:
    folder = ROOT / "examples/travel"
    for _ in range(2):
        done = kubectl(plane, quiet, "apply", *how, "--filename", folder)
        assert done.returncode == 0, done.stderr
        before = [await quiet.get(kind, "travel") for kind in ("Procedure", "CompiledAgent")]
    kubectl(plane, quiet, "apply", *how, "--filename", folder)
    assert [await quiet.get(kind, "travel") for kind in ("Procedure", "CompiledAgent")] == before
    assert [obj["metadata"]["generation"] for obj in before if obj] == [1, 1]
    assert kubectl(plane, quiet, "diff", *how, "--filename", folder).stdout == ""


@pytest.mark.parametrize("folder", ["staging", "production"])
async def test_the_example_layout_is_built_and_accepted(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, folder: str
) -> None:
    built = kubectl(plane, quiet, "kustomize", ROOT / "examples/gitops" / folder)
    (tmp_path / "built.yaml").write_text(built.stdout)
    done = kubectl(plane, quiet, "create", "--dry-run=server", "--filename", tmp_path / "built.yaml")
    assert done.returncode == 0 and "compiledagent" in done.stdout, built.stderr + done.stderr


async def test_the_patch_for_argo_cd_fits_its_config_map(quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path) -> None:
    patch = yaml.safe_load((ROOT / "gitops/argocd/argocd-cm.yaml").read_text())
    patch["metadata"]["namespace"] = quiet.namespace
    (tmp_path / "patch.yaml").write_text(yaml.safe_dump(patch))
    kubectl(plane, quiet, "create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example")
    done = kubectl(plane, quiet, "patch", "configmap", "argocd-cm", "--patch-file", tmp_path / "patch.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads(kubectl(plane, quiet, "get", "configmap", "argocd-cm", "--output=json").stdout)
    assert found["data"] == {"url": "https://argocd.example", **patch["data"]}


def older(crd: Object) -> Object:
    """A CRD as an earlier release had it: one field and one column fewer."""
    found = copy.deepcopy(crd)
    version = found["spec"]["versions"][0]
    version["additionalPrinterColumns"].pop(0)
    if found["spec"]["names"]["kind"] == "Procedure":
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("personas")
    return found


async def test_new_crds_keep_live_objects_and_take_what_is_new(quiet: ClusterNamespace) -> None:
    for crd in all_crds():
        await quiet.api.apply(older(crd))
    stored = await quiet.put(TRAVEL)
    for crd in all_crds():
        await quiet.api.apply(crd)
    kept = await quiet.get("Procedure", "travel")
    assert kept and (kept["spec"], kept["metadata"]["uid"]) == (stored["spec"], stored["metadata"]["uid"])
    new = {**TRAVEL, "spec": {"personas": [{"name": "calm"}]}}

    async def taken() -> bool:
        found = await quiet.change(new)
        return bool(found["spec"].get("personas") == [{"name": "calm"}])

    await quiet.until(taken, "the new field is known")


async def deployed(world: ClusterNamespace, replicas: int) -> None:
    """Waits until the agent's Deployment should have so many pods."""

    async def met() -> bool:
        [deployment] = await world.all("Deployment")
        return bool(deployment["spec"]["replicas"] == replicas)

    # An autoscaler learns of a new kind within 30 s and then looks every 15 s.
    await world.until(met, f"{replicas} replicas are wanted", patience=90)


async def test_people_and_autoscalers_scale_an_agent(world: ClusterNamespace, plane: ControlPlane) -> None:
    for file in (TRAVEL, TRAVEL_AGENT):
        await world.put(file)
    await world.up_to_date()
    assert kubectl(plane, world, "scale", "compiledagent", "travel", "--replicas=3").returncode == 0
    await deployed(world, 3)
    command = ["autoscale", "compiledagent", "travel", "--min=1", "--max=2", "--cpu=80%"]
    assert kubectl(plane, world, *command).returncode == 0
    await deployed(world, 2)


async def test_a_procedure_in_the_cluster_is_drawn_by_its_name(quiet: ClusterNamespace, plane: ControlPlane) -> None:
    await quiet.put(TRAVEL)
    target = ["--kubeconfig", str(plane.kubeconfig), "--namespace", quiet.namespace]
    drawn = CliRunner().invoke(app, ["graph", "travel", *target, "--output", "json"])
    assert drawn.exit_code == 0, drawn.output
    assert json.loads(drawn.stdout)["paths"] == 86
