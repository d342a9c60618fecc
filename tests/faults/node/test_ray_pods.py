"""A generation over several real pods: KubeRay's own operator, the real kubelet, scheduler and DNS, all on one machine.

Needs root, the images and KubeRay's operator; `make test-exhaustive` starts the embedded cluster and builds them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import TALLY
from tests.faults.node.node_namespace import NodeNamespace, operated, until
from tests.tools import kuberay

from subterra_cluster.config import default_cache, default_paths
from subterra_operator.labels import RAY_LABEL, labels_of
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL

pytestmark = [pytest.mark.faults, pytest.mark.exhaustive, pytest.mark.timeout(3000)]
HERE = NodeNamespace("ray-pods")
CONVERSATIONS = 3000
INPUTS = {
    "procedureRef": {"name": "travel"},
    "baseModel": {"uri": "scratch"},
    "generation": {"conversations": CONVERSATIONS},
    "training": {"maxSteps": 2, "batchSize": 4},
    "evaluation": {"scenarios": 10},
}
POD = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
RUN = {
    "apiVersion": "subterra.dev/v1alpha1",
    "kind": "CompileRun",
    "metadata": {"name": "spread"},
    "spec": {"inputs": INPUTS, "execution": {"generate": {"workers": 2, "resources": POD}}},
}


@pytest.fixture
def heads(tmp_path: Path) -> Iterator[kuberay.Heads]:
    """The embedded cluster with the operator, KubeRay's CRDs, and KubeRay's operator on the machine."""
    if not (program := kuberay.operator_path(default_cache())).exists():
        pytest.skip("KubeRay's operator is not built: make test-exhaustive builds it")
    with operated(HERE):
        for crd in kuberay.CRDS:
            HERE.kubectl("apply", "--server-side", f"--filename={crd.path(default_cache())}")
        until(lambda: HERE.knows("rayjobs.ray.io"), "the API server knows RayJobs")
        restart_operator()
        asked = kuberay.Heads(address_of_head)
        with kuberay.running_operator(program, default_paths().kubeconfig, HERE.name, tmp_path, asked):
            yield asked
            HERE.kubectl("delete", "compilerun", "spread")
            until(lambda: not HERE.read("rayjobs"), "KubeRay lets go of the RayJob")
        for kind in kuberay.KINDS:
            HERE.kubectl("delete", "customresourcedefinition", f"{kind}.ray.io", "--wait=false")


def test_pods_of_a_rayjob_write_together_and_one_that_is_lost_is_replaced(heads: kuberay.Heads) -> None:
    HERE.apply(TRAVEL)
    HERE.apply(RUN)
    pods = until(all_running, "driver, head and two workers run")
    until(lambda: HERE.stage("spread", "generate").get("percent"), "some conversations are written")
    HERE.delete(pods["worker"][0])
    TALLY.injected += 1
    until(lambda: HERE.has_succeeded("spread", "generate"), "the conversations are written")
    TALLY.survived += 1

    stage = HERE.stage("spread", "generate")
    assert (stage["attempt"], stage.get("retries", 0)) == (1, 0), "a worker's pod is no attempt"
    parts = [
        file.read_text().splitlines() for name in ("train", "heldout") for file in HERE.store().glob(f"datasets/*/{name}.jsonl")
    ]
    assert [sum(map(len, parts)), len(parts)] == [CONVERSATIONS, 2]
    until(lambda: states() == ["Complete"], "KubeRay has seen the driver end")
    assert heads.answered[200], "KubeRay asked a dashboard, with the cluster's token"
    until(lambda: not HERE.read("rayclusters") and not members(), "nothing of the Ray cluster is left")


def restart_operator() -> None:
    """One that runs finds new kinds within two minutes; until then it generates in one pod."""
    place = ("deployment/subterra", "--namespace=subterra-system")
    HERE.kubectl("rollout", "restart", *place)
    HERE.kubectl("rollout", "status", *place, "--timeout=100s")


def address_of_head(host: str) -> str | None:
    """Address of the pod behind a head's Service; there is one at a time."""
    head = HERE.pod_of(ray="head")
    return str(head["status"]["podIP"]) if head else None


def members() -> list[Object]:
    """Head and workers."""
    return [pod for pod in HERE.read("pods") if labels_of(pod).get(RAY_LABEL) in ("head", "worker")]


def all_running() -> dict[str, list[Object]] | None:
    """The pods by their role, once all run."""
    found: dict[str, list[Object]] = {}
    for pod in HERE.read("pods"):
        if pod["status"].get("phase") == "Running" and (role := labels_of(pod).get(RAY_LABEL)):
            found.setdefault(role, []).append(pod)
    return found if {role: len(pods) for role, pods in found.items()} == {"driver": 1, "head": 1, "worker": 2} else None


def states() -> list[str]:
    """What KubeRay says of each RayJob."""
    return [each.get("status", {}).get("jobDeploymentStatus", "") for each in HERE.read("rayjobs")]
