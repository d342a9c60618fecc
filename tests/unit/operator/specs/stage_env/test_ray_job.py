"""A generation over several pods: its RayJob, what its pods may do, and what a cluster without KubeRay gets."""

from importlib.metadata import version
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.labels import COMPONENT_LABEL, MANAGED_BY, NODES_LABEL, RAY_LABEL, RUN_LABEL, RUN_UID_LABEL, STAGE_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import Settings, StoreSettings
from subterra_operator.specs.pod import CONTAINER_SECURITY, POD_SECURITY
from subterra_operator.specs.stage_env.ray_job import RAY_JOB_NAME_LIMIT, RAY_VERSION, ray_job_name, spread
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
ONE_NODE = Settings(store=StoreSettings(access_mode="ReadWriteOnce"))


def execution(queue: str | None = None, **generate: Any) -> ExecutionSettings:
    keys = {"anthropic": {"name": "anthropic"}}
    return ExecutionSettings.model_validate({"queueName": queue, "apiKeySecrets": keys, "generate": {"workers": 10, **generate}})


def made(
    stage: Any = "generate", attach: bool = False, ray_jobs: bool = True, settings: Settings = SETTINGS, **about: Any
) -> Object:
    """What the operator creates for a stage of a run with ten writing processes, of which a pod holds four."""
    return stage_job(make.paid_run(), execution(**about), Attempt(stage, 1, attach), settings, ray_jobs=ray_jobs)


def pods(ray_job: Object) -> dict[str, Object]:
    """Templates of driver, head and worker."""
    cluster = ray_job["spec"]["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    head = cluster["headGroupSpec"]["template"]
    return {"driver": ray_job["spec"]["submitterPodTemplate"], "head": head, "worker": group["template"]}


def main(pod: Object) -> Object:
    [found] = pod["spec"]["containers"]
    return dict(found)


def variables(pod: Object) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in main(pod)["env"]}


def test_only_a_generation_of_more_processes_than_a_pod_holds_is_spread_over_pods() -> None:
    assert made()["kind"] == "RayJob"
    assert {made(stage)["kind"] for stage in ("train", "evaluate")} == {"Job"}
    assert made(workers=4)["kind"] == "Job", "the default limit is four CPUs"
    assert made(workers=4, resources={"requests": {"cpu": "500m"}})["kind"] == "RayJob", "without a limit the request counts"
    assert made(resources={"requests": {"memory": "1Gi"}})["kind"] == "Job", "a pod without either may have all CPUs of its node"
    assert made(attach=True)["kind"] == "Job", "one pod reads a result back"


def test_without_workers_nothing_is_different_from_before() -> None:
    plain = stage_job(make.paid_run(), execution(workers=None), Attempt("generate", 1), SETTINGS)
    assert made(workers=None) == plain
    assert plain["kind"] == "Job"
    assert "SUBTERRA_WORKERS" not in str(plain)


def test_there_are_as_many_pods_as_the_processes_need_and_each_offers_what_it_holds() -> None:
    spec = made()["spec"]["rayClusterSpec"]
    [group] = spec["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert group["rayStartParams"]["num-cpus"] == "4"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "nothing is written at the head"
    assert variables(pods(made())["driver"])["SUBTERRA_WORKERS"] == "10"


def test_the_driver_is_the_pod_of_a_job_and_the_submitter_of_the_rayjob() -> None:
    driver, single = pods(made())["driver"], made(ray_jobs=False)["spec"]["template"]
    assert driver["spec"]["activeDeadlineSeconds"] == single["spec"]["activeDeadlineSeconds"]
    assert main(driver)["command"] == ["python", "-m", "subterra_jobs.generate"]
    assert {key: value for key, value in driver["spec"].items() if key != "containers"} == {
        key: value for key, value in single["spec"].items() if key != "containers"
    }
    assert {key: value for key, value in main(driver).items() if key != "env"} == {
        key: value for key, value in main(single).items() if key != "env"
    }


def test_attempts_are_the_operators_so_nothing_is_restarted() -> None:
    ray_job = made()
    spec = ray_job["spec"]
    assert (spec["backoffLimit"], spec["submitterConfig"]) == (0, {"backoffLimit": 0})
    assert ray_job["metadata"]["annotations"] == {"ray.io/disable-provisioned-head-restart": "true"}
    assert {pod["spec"]["restartPolicy"] for pod in pods(ray_job).values()} == {"Never"}
    assert spec["shutdownAfterJobFinishes"] is True, "KubeRay suspends only such jobs, and idle workers cost money"
    assert spec["activeDeadlineSeconds"] == made(ray_jobs=False)["spec"]["activeDeadlineSeconds"]


def test_every_pod_is_restricted_and_has_no_token_of_the_api_server() -> None:
    for role, pod in pods(made()).items():
        assert pod["spec"]["securityContext"] == POD_SECURITY, role
        assert CONTAINER_SECURITY.items() <= main(pod)["securityContext"].items(), role
        assert pod["spec"]["automountServiceAccountToken"] is False, role


def test_workers_have_store_and_keys_and_the_head_has_no_key() -> None:
    found = pods(made())
    assert {"name": "store", "mountPath": "/store"} in main(found["worker"])["volumeMounts"]
    assert "secretKeyRef" in variables(found["worker"])["ANTHROPIC_API_KEY"]
    assert "secretKeyRef" not in str(found["head"])
    for role in ("head", "worker"):
        assert not {"command", "args"} & main(found[role]).keys(), "KubeRay starts Ray there"
        assert "activeDeadlineSeconds" not in found[role]["spec"], "they wait for each other"
    assert made()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}, "whoever reaches the head could run programs"


def test_settings_of_the_pods_reach_all_of_them() -> None:
    template = {"labels": {"team": "shop"}, "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}], "priorityClassName": "low"}
    toleration = {"key": "spot", "operator": "Exists"}
    for pod in pods(made(podTemplate=template, tolerations=[toleration])).values():
        assert pod["metadata"]["labels"]["team"] == "shop"
        assert (pod["spec"]["priorityClassName"], pod["spec"]["tolerations"]) == ("low", [toleration])
    assert variables(pods(made(podTemplate=template))["worker"])["HTTPS_PROXY"] == "http://proxy"


def test_the_labels_are_those_by_which_the_operator_finds_rayjob_and_pods() -> None:
    ray_job = made(queue="cpus")
    assert ray_job["metadata"]["labels"].items() >= {MANAGED_BY: "subterra", STAGE_LABEL: "generate", NODES_LABEL: "5"}.items()
    [owner] = ray_job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("CompileRun", True)
    for role, pod in pods(ray_job).items():
        labels = pod["metadata"]["labels"]
        assert labels[RAY_LABEL] == role
        assert labels[RUN_UID_LABEL] == owner["uid"], "its own owner is KubeRay's"
        assert labels[RUN_LABEL] == ray_job["metadata"]["labels"][RUN_LABEL]
        assert labels[COMPONENT_LABEL] == ("job" if role == "driver" else "ray"), "only the driver reports progress"


def test_kueue_admits_the_rayjob_as_a_whole() -> None:
    ray_job = made(queue="cpus")
    assert ray_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "cpus"
    assert ray_job["spec"]["suspend"] is True
    assert "kueue" not in str(ray_job["spec"])


@pytest.mark.parametrize(
    "name", ["shop-1a2b3c4d-generate-1", "24h-service-1a2b3c4d-generate-1", "a" * 40 + "-1a2b3c4d-generate-12"]
)
def test_names_are_ones_that_kuberay_takes(name: str) -> None:
    found = ray_job_name(name)
    assert found[0].isalpha() and len(found) <= RAY_JOB_NAME_LIMIT == 47
    assert ray_job_name(name) != ray_job_name(name.replace("generate-1", "generate-2"))


def test_the_pods_reach_each_other_and_only_kuberay_reaches_the_head_from_elsewhere() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in network_policies("demo", SETTINGS)}
    assert policies["subterra-nodes"]["podSelector"]["matchExpressions"] == [{"key": NODES_LABEL, "operator": "Exists"}]
    head = policies["subterra-ray"]
    assert head["podSelector"] == {"matchLabels": {MANAGED_BY: "subterra", RAY_LABEL: "head"}}
    [rule] = head["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert rule["from"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}}


@pytest.mark.parametrize(
    ("ray_jobs", "settings", "words"),
    [
        (False, SETTINGS, "this cluster has no RayJobs (rayjobs.ray.io)"),
        (True, ONE_NODE, "only one node can mount the store's claim subterra-store (ReadWriteOnce)"),
    ],
)
def test_a_cluster_that_cannot_spread_them_gets_as_many_as_a_pod_holds_and_says_so(
    ray_jobs: bool, settings: Settings, words: str
) -> None:
    job = made(ray_jobs=ray_jobs, settings=settings)
    assert job["kind"] == "Job"
    assert variables(job["spec"]["template"])["SUBTERRA_WORKERS"] == "4"
    note = spread(execution(), settings, ray_jobs=ray_jobs).note
    assert note.startswith(f"4 of 10 workers write, in one pod, because {words}")
    assert "; for more " in note


def test_the_version_that_kuberay_is_told_is_that_of_the_image() -> None:
    assert version("ray") == RAY_VERSION
