"""A training on two nodes in real pods: JobSet's own controller, the real kubelet, scheduler and DNS, all on one machine.

Needs root, the images and the controller; `make test-exhaustive` starts the embedded cluster and builds them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import TALLY
from tests.faults.node.node_namespace import NodeNamespace, kill_processes, operated, until
from tests.tools import jobset

from subterra_cluster.config import default_cache, default_paths
from subterra_operator.decide.run.gang import INDEX_LABEL
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL

pytestmark = [pytest.mark.faults, pytest.mark.exhaustive, pytest.mark.timeout(3000)]
HERE = NodeNamespace("two-pods")
STEPS, CHECKPOINT_STEPS = 160, 20
CRD = "jobsets.jobset.x-k8s.io"
INPUTS = {
    "procedureRef": {"name": "travel"},
    "baseModel": {"uri": "scratch"},
    "generation": {"conversations": 200},
    "training": {"maxSteps": STEPS, "checkpointSteps": CHECKPOINT_STEPS, "batchSize": 4},
    "evaluation": {"scenarios": 10},
}
POD = {"nodes": 2, "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}}
RUN = {
    "apiVersion": "subterra.dev/v1alpha1",
    "kind": "CompileRun",
    "metadata": {"name": "together"},
    "spec": {"inputs": INPUTS, "execution": {"train": POD}},
}


@pytest.fixture
def installed_jobset(tmp_path: Path) -> Iterator[None]:
    """The embedded cluster with the operator, JobSet's CRD, and JobSet's controller on the machine."""
    if not (program := jobset.controller_path(default_cache())).exists():
        pytest.skip("the controller is not built: make test-exhaustive builds it")
    with operated(HERE):
        # Server-side, because the whole of it does not fit the annotation that kubectl keeps otherwise.
        HERE.kubectl("apply", "--server-side", f"--filename={jobset.CRD.path(default_cache())}")
        until(lambda: HERE.knows(CRD), "the API server knows JobSets")
        with jobset.running_controller(program, default_paths().kubeconfig, tmp_path) as webhooks:
            for webhook in webhooks:
                HERE.apply(webhook)
            yield
            for webhook in webhooks:
                HERE.kubectl("delete", webhook["kind"], webhook["metadata"]["name"])
        HERE.kubectl("delete", "customresourcedefinition", CRD, "--wait=false")


def test_two_pods_of_a_jobset_train_as_one_and_after_the_death_of_one_both_resume_and_the_model_is_published(
    installed_jobset: None,
) -> None:
    HERE.apply(TRAVEL)
    HERE.apply(RUN)
    pods = until(lambda: running_together("1"), "two pods train")
    assert len({pod["status"]["podIP"] for pod in pods.values()}) == 2
    seen = until(newest_checkpoint, "there is a checkpoint", pause=0.1)
    kill_processes(pods["1"])
    TALLY.injected += 1
    until(lambda: HERE.has_succeeded("together", "train"), "the model is published")
    TALLY.survived += 1

    first, second = until(ended_jobsets, "JobSet's controller has ended both attempts")
    assert [found["status"]["terminalState"] for found in (first, second)] == ["Failed", "Completed"]
    assert [found["status"].get("restarts", 0) for found in (first, second)] == [0, 0], "attempts are the operator's"
    assert HERE.read("service", second["metadata"]["name"])["spec"]["clusterIP"] == "None"
    node0, node1 = (HERE.kubectl("logs", pod["metadata"]["name"]) for _, pod in sorted(pods_of("2").items()))
    [resumed] = re.findall(r"training goes on from checkpoint-(\d+)", node0)
    assert seen <= int(resumed) < STEPS
    assert "node 1 of 2 has done its part" in node1
    stage = HERE.stage("together", "train")
    assert (stage["attempt"], stage["retries"], stage["message"].split()[0]) == (2, 1, str(STEPS))
    assert [each.name for each in HERE.store().glob("models/*/config.json")] == ["config.json"]
    assert not list(HERE.store().glob("work/*/checkpoints")), "checkpoints go once the model is published"


def ended_jobsets() -> list[Object] | None:
    """Both attempts once their controller has seen their pods end, which is some time after the operator has."""
    found = sorted(HERE.read("jobsets"), key=lambda each: str(each["metadata"]["name"]))
    return found if [bool(each.get("status", {}).get("terminalState")) for each in found] == [True, True] else None


def running_together(attempt: str) -> dict[str, Object] | None:
    """The pods of an attempt by their index, once both run."""
    alive = {index: pod for index, pod in pods_of(attempt).items() if pod["status"].get("phase") == "Running"}
    return alive if sorted(alive) == ["0", "1"] else None


def pods_of(attempt: str) -> dict[str, Object]:
    marks = {"subterra.dev/stage": "train", "subterra.dev/attempt": attempt}
    found = [pod for pod in HERE.read("pods") if marks.items() <= labels_of(pod).items()]
    return {labels_of(pod)[INDEX_LABEL]: pod for pod in found}


def newest_checkpoint() -> int | None:
    """Step of the newest complete checkpoint on the store's volume."""
    complete = HERE.store().glob("work/*/checkpoints/checkpoint-*/complete.json")
    return max((int(file.parent.name.rpartition("-")[2]) for file in complete), default=None)
