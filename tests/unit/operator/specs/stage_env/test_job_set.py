"""A training on several nodes: its JobSet, and what its pods know of each other."""

from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.labels import MANAGED_BY, NODES_LABEL, STAGE_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import CONTAINER_SECURITY, POD_SECURITY
from subterra_operator.specs.stage_env.job_set import JOB_SET_NAME_LIMIT, job_set_name
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
GPUS = {"limits": {"nvidia.com/gpu": 8}}


def made(stage: Any = "train", attach: bool = False, queue: str | None = None, **train: Any) -> Object:
    """What the operator creates for a stage of a run that trains on two nodes."""
    settings = ExecutionSettings.model_validate({"queueName": queue, "train": {"nodes": 2, **train}})
    return stage_job(make.run(), settings, Attempt(stage, 1, attach), SETTINGS)


def only_job(job_set: Object) -> Object:
    """Spec of the Job that the JobSet's controller makes."""
    [replicated] = job_set["spec"]["replicatedJobs"]
    assert (replicated["name"], replicated["replicas"]) == ("node", 1)
    spec: Object = replicated["template"]["spec"]
    return spec


def environment(job_set: Object) -> dict[str, Any]:
    [main] = only_job(job_set)["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in main["env"]}


def test_only_the_training_has_several_pods() -> None:
    assert made()["kind"] == "JobSet"
    assert {made(stage)["kind"] for stage in ("generate", "evaluate")} == {"Job"}
    assert made(nodes=1)["kind"] == "Job"
    assert made(attach=True)["kind"] == "Job", "one pod reads a result back"


def test_a_single_node_trains_in_the_same_job_as_before() -> None:
    one = stage_job(make.run(), ExecutionSettings(), Attempt("train", 1), SETTINGS)
    assert made(nodes=1) == one
    assert NODES_LABEL not in str(one)


def test_all_pods_start_at_once_and_the_death_of_one_ends_all() -> None:
    job_set = made()
    spec = only_job(job_set)
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert job_set["spec"]["failurePolicy"] == {"maxRestarts": 0}, "attempts are the operator's"
    assert job_set["spec"]["successPolicy"] == {"operator": "All"}


def test_the_pods_are_those_of_a_job_with_the_same_security_deadline_and_labels() -> None:
    pods, single = only_job(made())["template"], made(nodes=1)["spec"]["template"]
    assert pods["spec"]["securityContext"] == POD_SECURITY
    assert CONTAINER_SECURITY.items() <= pods["spec"]["containers"][0]["securityContext"].items()
    assert pods["metadata"]["labels"] == {**single["metadata"]["labels"], NODES_LABEL: "2"}
    assert {key: value for key, value in pods["spec"].items() if key != "containers"} == {
        key: value for key, value in single["spec"].items() if key != "containers"
    }


def test_the_pods_find_the_first_one_by_the_hostname_that_jobset_gives_it() -> None:
    found = environment(made(resources=GPUS))
    name = made()["metadata"]["name"]
    assert found["SUBTERRA_RENDEZVOUS"] == f"{name}-node-0-0.{name}:29500"
    assert made()["spec"]["network"]["enableDNSHostnames"] is True
    assert (found["SUBTERRA_NODES"], found["SUBTERRA_RANKS"], found["SUBTERRA_GPUS"]) == ("2", "16", "8")
    assert found["SUBTERRA_NODE_RANK"] == {
        "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
    }


def test_ranks_are_those_of_each_pod() -> None:
    assert environment(made(ranks=3))["SUBTERRA_RANKS"] == "6"


def test_jobset_and_job_carry_the_labels_by_which_the_operator_finds_them() -> None:
    job_set = made(queue="gpus")
    labels = job_set["spec"]["replicatedJobs"][0]["template"]["metadata"]["labels"]
    assert (labels[MANAGED_BY], labels[STAGE_LABEL], labels[NODES_LABEL]) == ("subterra", "train", "2")
    assert labels.items() <= job_set["metadata"]["labels"].items()
    [owner] = job_set["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("CompileRun", True)


def test_kueue_admits_the_jobset_as_a_whole() -> None:
    job_set = made(queue="gpus")
    assert job_set["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job_set["spec"]["suspend"] is True
    assert "kueue" not in str(job_set["spec"]) and "suspend" not in only_job(job_set)


@pytest.mark.parametrize("name", ["shop-1a2b3c4d-train-1", "24h-service-1a2b3c4d-train-1", "a" * 40 + "-1a2b3c4d-train-12"])
def test_names_leave_room_for_those_of_the_pods_and_begin_with_a_letter(name: str) -> None:
    found = job_set_name(name)
    assert found[0].isalpha() and len(found) <= JOB_SET_NAME_LIMIT
    assert len(f"{found}-node-0-63-abcde") <= 63
    assert job_set_name(name) != job_set_name(name.replace("train-1", "train-2"))


def test_pods_that_train_together_reach_each_other_and_no_others() -> None:
    [policy] = [each["spec"] for each in network_policies("demo", SETTINGS) if each["metadata"]["name"] == "subterra-nodes"]
    together = {"matchLabels": {MANAGED_BY: "subterra"}, "matchExpressions": [{"key": NODES_LABEL, "operator": "Exists"}]}
    assert policy["podSelector"] == together
    assert policy["ingress"] == [{"from": [{"podSelector": together}]}]
    assert policy["egress"] == [{"to": [{"podSelector": together}]}]
