"""The chart: what it installs is accepted, and its rights are enough for a whole compilation, in all namespaces or in one."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from subterra_cluster import binaries as cluster_binaries
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import ROOT, TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator


def tool(plane: ControlPlane, name: str, *words: str) -> str:
    command = [plane.kubectl.with_name(name), "--kubeconfig", plane.kubeconfig, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(plane: ControlPlane, system: str, *values: str) -> None:
    """Installs the chart into a namespace of its own; the CRDs are there already and of other owners."""
    chart = str(ROOT / "charts/subterra")
    options = [f"--set={value}" for value in ("crds.install=false", *values)]
    tool(plane, "helm", "upgrade", "--install", system, chart, "--namespace", system, "--create-namespace", *options)


def as_service_account(plane: ControlPlane, system: str, path: Path) -> Path:
    """A kubeconfig with the rights of the installed operator and no others."""
    token = tool(plane, "kubectl", "create", "token", system, "--namespace", system).strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config))
    return path


def settings_of(plane: ControlPlane, system: str) -> Settings:
    """The settings that the chart made."""
    made = tool(plane, "kubectl", "get", "configmap", f"{system}-settings", "--namespace", system, "--output=yaml")
    return Settings.model_validate(yaml.safe_load(yaml.safe_load(made)["data"]["settings.yaml"]))


async def reported(plane: ControlPlane, world: ClusterNamespace) -> bool:
    """Whether the operator has posted Events about the agent."""
    selector = "--field-selector=involvedObject.kind=CompiledAgent"
    return "RunCreated" in tool(plane, "kubectl", "get", "events", selector, "--namespace", world.namespace)


@pytest.mark.parametrize("everywhere", [True, False], ids=["all namespaces", "one namespace"])
async def test_its_rights_are_enough_for_a_compilation(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everywhere: bool
) -> None:
    system = f"system-{quiet.namespace}"
    installed(plane, system, *([] if everywhere else [f"watchNamespaces={{{quiet.namespace}}}"]))
    monkeypatch.setenv("KUBECONFIG", str(as_service_account(plane, system, tmp_path / "kubeconfig")))
    kubelet = asyncio.create_task(quiet.kubelet.run())
    async with running_operator(settings_of(plane, system)):
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await quiet.condition("CompiledAgent", "travel", "UpToDate", "True")
        await quiet.until(lambda: reported(plane, quiet), "the agent has Events")
    kubelet.cancel()
    tool(plane, "helm", "uninstall", system, "--namespace", system)


def test_the_operator_may_not_read_secrets(plane: ControlPlane) -> None:
    rules = [rule for obj in rendered(plane) for rule in obj.get("rules") or []]
    assert rules
    assert not {resource for rule in rules for resource in rule["resources"]} & {"secrets", "*"}


def test_the_operator_reads_the_events_of_others_and_posts_its_own(plane: ControlPlane) -> None:
    rules = [rule for obj in rendered(plane) for rule in obj.get("rules") or [] if "events" in rule["resources"]]
    assert sorted((rule["apiGroups"], rule["verbs"]) for rule in rules) == [
        ([""], ["list"]),
        (["events.k8s.io"], ["create", "patch"]),
    ]


def rendered(plane: ControlPlane, *values: str) -> list[Object]:
    """The chart's objects for namespace ``system``."""
    options = [f"--set={value}" for value in values]
    text = tool(plane, "helm", "template", "subterra", str(ROOT / "charts/subterra"), "--namespace", "system", *options)
    return [document for document in yaml.safe_load_all(text) if document]


def named(objects: list[Object], kind: str, name: str = "subterra") -> list[Object]:
    return [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]


@pytest.mark.parametrize("watched", [(), ("watchNamespaces={agents}",)], ids=["all namespaces", "one namespace"])
def test_the_operator_may_use_its_own_lease_and_no_other(plane: ControlPlane, watched: tuple[str, ...]) -> None:
    objects = rendered(plane, *watched)
    rules = [(obj, rule) for obj in objects for rule in obj.get("rules") or [] if "leases" in rule["resources"]]
    assert [(obj["kind"], obj["metadata"]["namespace"]) for obj, _ in rules] == [("Role", "system")] * 2
    assert [(rule["verbs"], rule.get("resourceNames")) for _, rule in rules] == [
        (["create"], None),
        (["get", "update"], ["subterra-operator"]),
    ]
    [settings] = named(objects, "ConfigMap", "subterra-settings")
    lease = Settings.model_validate(yaml.safe_load(settings["data"]["settings.yaml"])).lease
    assert (lease.namespace, lease.name) == ("system", "subterra-operator")


@pytest.mark.parametrize(("values", "replicas", "budgets"), [((), 2, 1), (("operator.replicas=1",), 1, 0)])
def test_two_operators_are_kept_apart_and_one_is_always_left(
    plane: ControlPlane, values: tuple[str, ...], replicas: int, budgets: int
) -> None:
    objects = rendered(plane, *values)
    [deployment] = named(objects, "Deployment")
    spec, pod = deployment["spec"], deployment["spec"]["template"]
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]) == (replicas, {"maxSurge": 1, "maxUnavailable": 0})
    [apart] = pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    budget = named(objects, "PodDisruptionBudget")
    assert [obj["spec"]["minAvailable"] for obj in budget] == [1] * budgets
    assert all(obj["spec"]["selector"] == spec["selector"] for obj in budget)


def test_uninstalling_keeps_the_crds(plane: ControlPlane) -> None:
    crds = [obj for obj in rendered(plane) if obj["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 3
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)


def older_chart(folder: Path) -> Path:
    """The chart as an earlier release had it: Procedures know no personas."""
    chart = Path(shutil.copytree(ROOT / "charts/subterra", folder / "subterra"))
    template = chart / "templates/crds/procedures.yaml"
    before, _, rest = template.read_text().partition("              personas:\n")
    after = re.split(r"^ {14}(?=\w)", rest, maxsplit=1, flags=re.M)[1]
    template.write_text(f"{before}              {after}")
    return chart


def test_an_upgrade_keeps_live_objects_and_teaches_them_what_is_new(tmp_path: Path) -> None:
    if cluster_binaries.cached(default_cache()) is None:
        pytest.skip("the binaries are not built: make test builds them")
    with ControlPlane(tmp_path / "plane", controllers=True) as plane:
        helm = ("helm", "upgrade", "--install", "subterra")
        more = ("--namespace", "subterra-system", "--create-namespace")
        tool(plane, *helm, str(older_chart(tmp_path)), *more)
        tool(plane, "kubectl", "wait", "crd", "--all", "--for=condition=Established")
        plain = tmp_path / "procedure.yaml"
        spec = {key: value for key, value in TRAVEL["spec"].items() if key != "personas"}
        plain.write_text(yaml.safe_dump({**TRAVEL, "spec": spec}))
        tool(plane, "kubectl", "apply", "--filename", str(plain))
        before = yaml.safe_load(tool(plane, "kubectl", "get", "procedure", "travel", "--output=yaml"))
        tool(plane, *helm, str(ROOT / "charts/subterra"), *more)
        after = yaml.safe_load(tool(plane, "kubectl", "get", "procedure", "travel", "--output=yaml"))
        assert (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
        patch = '{"spec":{"personas":[{"name":"calm"}]}}'
        tool(plane, "kubectl", "patch", "procedure", "travel", "--type=merge", "--patch", patch)
        assert "calm" in tool(plane, "kubectl", "get", "procedure", "travel", "--output=yaml")
        tool(plane, "helm", "uninstall", "subterra", "--namespace", "subterra-system")
        assert tool(plane, "kubectl", "get", "procedure", "travel", "--output=name").strip() == "procedure.subterra.dev/travel"
