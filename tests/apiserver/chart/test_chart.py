"""The chart: what it installs is accepted, and its rights are enough for a whole compilation, in all namespaces or in one."""

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from subterra_cluster import binaries as cluster_binaries
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_core.node_pools import NodePool
from subterra_operator.resources import Object
from subterra_operator.settings import BudgetSettings, Settings
from subterra_testkit.cluster.kubernetes_objects import ROOT, TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator
from subterra_testkit.cluster.refused_agents import refused, stalled_agent, starts


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


@asynccontextmanager
async def operating(world: ClusterNamespace, plane: ControlPlane, folder: Path, *values: str) -> AsyncIterator[str]:
    """An operator with the settings and the rights of an installed chart; yields the chart's namespace."""
    system, before = f"system-{world.namespace}", os.environ["KUBECONFIG"]
    installed(plane, system, *values)
    os.environ["KUBECONFIG"] = str(as_service_account(plane, system, folder / "kubeconfig"))
    kubelet = asyncio.create_task(world.kubelet.run())
    async with running_operator(settings_of(plane, system)):
        yield system
    os.environ["KUBECONFIG"] = before
    kubelet.cancel()
    tool(plane, "helm", "uninstall", system, "--namespace", system)


@pytest.mark.parametrize("everywhere", [True, False], ids=["all namespaces", "one namespace"])
async def test_its_rights_are_enough_for_a_compilation(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, everywhere: bool
) -> None:
    async with operating(quiet, plane, tmp_path, *([] if everywhere else [watching(quiet)])):
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await quiet.condition("CompiledAgent", "travel", "UpToDate", "True")
        await quiet.until(lambda: reported(plane, quiet), "the agent has Events")


def watching(*worlds: ClusterNamespace) -> str:
    """The chart's value for namespaces to watch."""
    return f"watchNamespaces={{{','.join(world.namespace for world in worlds)}}}"


async def test_of_three_namespaces_the_two_that_are_watched_are_served_and_the_third_is_left_alone(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path
) -> None:
    """Its rights end at the two, and it is ready all the same."""
    second, third = (ClusterNamespace(quiet.api, f"{quiet.namespace}-{name}") for name in ("second", "third"))
    for world in (second, third):
        await world.prepare([])
        await world.put(TRAVEL)
    await quiet.put(TRAVEL)
    async with operating(quiet, plane, tmp_path, watching(quiet, second)):
        for world in (quiet, second):
            await world.condition("Procedure", "travel", "Accepted", "True")
        left = await third.get("Procedure", "travel")
        assert left and "conditions" not in left.get("status", {})
        await second.put(TRAVEL_AGENT)
        await second.until(lambda: second.names("Job"), "the run in the second namespace starts")


TAKEN = {
    "jobs": 'cannot create resource "jobs" in API group "batch"',
    "persistentvolumeclaims": 'cannot create resource "persistentvolumeclaims"',
    "networkpolicies": 'resource "networkpolicies" in API group "networking.k8s.io"',
}


def without(rules: list[Object], resource: str, *verbs: str) -> list[Object]:
    """A role's rules without these verbs of a resource."""
    return [
        {**rule, "verbs": [verb for verb in rule["verbs"] if resource not in named_in(rule) or verb not in verbs]} for rule in rules
    ]


def named_in(rule: Object) -> list[str]:
    """A rule's resources, as kubectl names them: those of a group with a dot in front of it, too."""
    plain, groups = rule["resources"], rule["apiGroups"]
    return [*plain, *(f"{resource}.{group}" for resource in plain for group in groups)]


async def granted(plane: ControlPlane, world: ClusterNamespace, system: str, resource: str) -> list[Object]:
    """Takes the right to create and patch a resource away from the installed operator; returns the rules that it had."""
    role = json.loads(tool(plane, "kubectl", "get", "role", system, "--namespace", world.namespace, "--output=json"))
    grant(plane, world, system, without(role["rules"], resource, "create", "patch"))
    verb, user = "create", f"system:serviceaccount:{system}:{system}"
    question = ("auth", "can-i", verb, resource, "--as", user, "--namespace", world.namespace)

    async def taken() -> bool:
        command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, *question]
        return (await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)).returncode != 0

    await world.until(taken, "the right is taken away")
    rules: list[Object] = role["rules"]
    return rules


def grant(plane: ControlPlane, world: ClusterNamespace, system: str, rules: list[Object]) -> None:
    patch = json.dumps({"rules": [rule for rule in rules if rule["verbs"]]})
    tool(plane, "kubectl", "patch", "role", system, "--namespace", world.namespace, "--type=merge", "--patch", patch)


@pytest.mark.parametrize(("resource", "words"), TAKEN.items(), ids=TAKEN)
async def test_a_right_that_was_taken_away_is_named_and_when_it_is_back_the_run_starts(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resource: str, words: str
) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 2.0)
    async with operating(quiet, plane, tmp_path, watching(quiet)) as system:
        rules = await granted(plane, quiet, system, resource)
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await refused(quiet, "Refused", words, "helm upgrade", "add this permission to the operator's role")
        grant(plane, quiet, system, rules)
        await starts(quiet)


async def test_without_the_right_to_create_runs_the_agent_says_so(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path
) -> None:
    async with operating(quiet, plane, tmp_path, watching(quiet)) as system:
        await granted(plane, quiet, system, "compileruns")
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await stalled_agent(quiet, "Refused", 'resource "compileruns" in API group "subterra.dev"', "helm upgrade")


async def test_an_operator_that_may_not_post_events_compiles_and_says_so_once(
    quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="subterra"):
        async with operating(quiet, plane, tmp_path, watching(quiet)) as system:
            await granted(plane, quiet, system, "events.events.k8s.io")
            await quiet.put(TRAVEL)
            await quiet.put(TRAVEL_AGENT)
            await quiet.up_to_date()
            assert not await reported(plane, quiet)
    assert sum("Events cannot be written" in record.getMessage() for record in caplog.records) == 1


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


def rendered(plane: ControlPlane, *values: str, strings: Sequence[str] = ()) -> list[Object]:
    """The chart's objects for namespace ``system``."""
    options = [*(f"--set={value}" for value in values), *(f"--set-string={value}" for value in strings)]
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


def test_pools_and_the_image_for_gpus_reach_the_operator(plane: ControlPlane) -> None:
    objects = rendered(plane, "pools.h200.gpuType=H200-141", "pools.h200.gpusPerNode=8", "images.jobsGpu=jobs-gpu:1")
    [made] = named(objects, "ConfigMap", "subterra-settings")
    settings = Settings.model_validate(yaml.safe_load(made["data"]["settings.yaml"]))
    assert settings.pools == {"h200": NodePool(gpu_type="H200-141", gpus_per_node=8)}
    assert settings.jobs_gpu_image == "jobs-gpu:1"


def test_the_administrators_caps_reach_the_operator(plane: ControlPlane) -> None:
    def budgets(*values: str, strings: Sequence[str] = ()) -> BudgetSettings:
        [made] = named(rendered(plane, *values, strings=strings), "ConfigMap", "subterra-settings")
        return Settings.model_validate(yaml.safe_load(made["data"]["settings.yaml"])).budgets

    assert budgets() == BudgetSettings()
    highest = ("budgets.maxUSDPerRun=100", "budgets.defaultMaxUSDPerRun=20")
    found = budgets("budgets.allowUncapped=false", strings=highest)
    assert found.dump() == {"maxUSDPerRun": "100", "defaultMaxUSDPerRun": "20", "allowUncapped": False}


async def test_whoever_may_edit_or_view_a_namespace_may_do_so_with_subterras_kinds(
    quiet: ClusterNamespace, plane: ControlPlane
) -> None:
    system = f"system-{quiet.namespace}"
    installed(plane, system, watching(quiet))
    for role in ("view", "edit", "admin"):
        user = f"--user={role}-er"
        tool(plane, "kubectl", "create", "rolebinding", role, f"--clusterrole={role}", user, "--namespace", quiet.namespace)

    def may(role: str, verb: str, resource: str) -> bool:
        name, _, part = resource.partition("/")
        question = ("auth", "can-i", verb, f"{name}.subterra.dev", f"--subresource={part}", "--as", f"{role}-er")
        command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, *question, "--namespace", quiet.namespace]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    async def aggregated() -> bool:
        return (
            may("view", "list", "compileruns") and may("edit", "create", "compiledagents") and may("admin", "patch", "procedures")
        )

    await quiet.until(aggregated, "the roles are aggregated")
    assert not may("view", "create", "procedures")
    assert not may("admin", "patch", "compileruns/status")
    tool(plane, "helm", "uninstall", system, "--namespace", system)


def test_uninstalling_keeps_the_crds(plane: ControlPlane) -> None:
    crds = [obj for obj in rendered(plane) if obj["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 3
    assert all(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for crd in crds)


async def test_after_an_uninstall_a_release_of_another_name_takes_over_the_crds_and_keeps_what_is_there(
    quiet: ClusterNamespace, plane: ControlPlane
) -> None:
    def install(release: str, *options: str) -> "subprocess.CompletedProcess[str]":
        words = ("install", release, str(ROOT / "charts/subterra"), "--namespace", release, "--create-namespace", *options)
        command = [plane.kubectl.with_name("helm"), "--kubeconfig", plane.kubeconfig, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def owners() -> set[str]:
        found = json.loads(tool(plane, "kubectl", "get", "crd", "--output=json"))["items"]
        ours = (crd["metadata"] for crd in found if crd["spec"]["group"] == "subterra.dev")
        return {metadata["annotations"]["meta.helm.sh/release-name"] for metadata in ours}

    first, second = f"first-{quiet.namespace}", f"second-{quiet.namespace}"
    before = await quiet.put(TRAVEL)
    done = install(first, "--take-ownership")  # other tests have applied the CRDs
    assert done.returncode == 0, done.stderr
    tool(plane, "helm", "uninstall", first, "--namespace", first)
    assert owners() == {first}
    refused = install(second)
    assert refused.returncode != 0
    assert "invalid ownership metadata" in refused.stderr and first in refused.stderr
    done = install(second, "--take-ownership")
    assert done.returncode == 0, done.stderr
    assert owners() == {second}
    after = await quiet.get("Procedure", "travel")
    assert after and (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
    tool(plane, "helm", "uninstall", second, "--namespace", second)


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
