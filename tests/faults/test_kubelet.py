"""On a real kubelet: pods and processes of every stage are killed, the operator goes away, versions change under a talking client.

Needs root and the images; `make test-exhaustive` starts the embedded cluster and builds them.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.conftest import TALLY

from subterra_demo import steps
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL

pytestmark = [pytest.mark.faults, pytest.mark.exhaustive, pytest.mark.timeout(3000)]
PLACE = steps.DemoCluster()
NAMESPACE = "faults"
PATIENCE = 900.0
LENIENT = {"minScenarios": 1, "minScore": 1, "maxFailureRate": 1, "minConformance": 0}
SMALL = {
    "generation": {"conversations": 200},
    "training": {"maxSteps": 20, "batchSize": 2},
    "evaluation": {"scenarios": 10},
}


def kubectl(*words: str, stdin: str | None = None) -> str:
    command = PLACE.kubectl("--namespace", NAMESPACE, *words)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(kind: str, name: str = "") -> Any:
    """An object, or all of a kind."""
    found = json.loads(kubectl("get", kind, *([name] if name else []), "--output=json"))
    return found if name else found["items"]


def apply(obj: Object) -> None:
    kubectl("apply", "--filename=-", stdin=json.dumps(obj))


def agent(**serving: Any) -> Object:
    compile_ = {"procedureRef": {"name": "travel"}, "template": SMALL}
    spec = {"compile": compile_, "promotion": {"gate": LENIENT, "keepWarmSeconds": 0}, "serving": serving}
    return {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "metadata": {"name": "travel"}, "spec": spec}


def until(met: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := met()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """The embedded cluster with the operator, and an empty namespace."""
    if os.geteuid() != 0:
        pytest.skip("the embedded cluster needs root")
    steps.cluster_up(PLACE)
    steps.install_chart(PLACE)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apply(namespace)
    yield
    subprocess.run(PLACE.kubectl("delete", "namespace", NAMESPACE, "--wait=false"), check=False)


def pod_of(**marks: str) -> Object | None:
    """The newest running pod with these labels."""
    wanted = {f"subterra.dev/{name}": value for name, value in marks.items()}
    alive = [pod for pod in read("pods") if wanted.items() <= labels_of(pod).items() and pod["status"].get("phase") == "Running"]
    return max(alive, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def kill_processes(pod: Object) -> None:
    """SIGKILL to what runs in a pod's containers, as an out-of-memory killer would send it."""
    uid = pod["metadata"]["uid"]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = uid in (process / "cgroup").read_text().replace("_", "-")
            if ours and b"subterra_jobs" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def delete(pod: Object) -> None:
    kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")


STRIKES = (("generate", kill_processes), ("train", delete), ("evaluate", kill_processes))


def test_pods_and_processes_of_every_stage_die_and_the_agent_is_served() -> None:
    apply(TRAVEL)
    apply(agent())
    for stage, strike in STRIKES:
        strike(until(lambda stage=stage: pod_of(stage=stage, attempt="1"), f"stage {stage} runs"))
        TALLY.injected += 1
        until(lambda stage=stage: succeeded(stage), f"stage {stage} is done")
        TALLY.survived += 1
    until(serving, "the agent serves")
    [run] = read("compileruns")
    name = run["metadata"]["name"]
    jobs = {job["metadata"]["name"] for job in read("jobs")}
    assert jobs == {f"{name}-{stage}-{attempt}" for stage, _ in STRIKES for attempt in (1, 2)}


def succeeded(stage: str) -> bool:
    runs = read("compileruns")
    stages = {item["name"]: item for run in runs for item in run.get("status", {}).get("stages", [])}
    assert stages.get(stage, {}).get("state") != "Failed", stages[stage]["message"]
    return bool(stages.get(stage, {}).get("state") == "Succeeded")


def serving() -> str | None:
    """The version that serves, once the agent is up to date."""
    status = read("compiledagent", "travel").get("status", {})
    fresh = any(item["type"] == "UpToDate" and item["status"] == "True" for item in status.get("conditions", []))
    return status["serving"]["version"] if fresh else None


def address() -> str:
    spec = read("service", "travel")["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


def ask(client: httpx.Client) -> None:
    body = {"model": "travel", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    client.post(f"{address()}/v1/chat/completions", json=body).raise_for_status()


def scale_operator(count: int) -> None:
    command = ("-n", steps.SYSTEM_NAMESPACE, "scale", "deployment", "subterra", f"--replicas={count}")
    subprocess.run(PLACE.kubectl(*command), check=True, capture_output=True)


def test_without_the_operator_the_agent_serves_and_a_dead_serving_pod_comes_back() -> None:
    scale_operator(0)
    TALLY.injected += 1
    with httpx.Client(timeout=30) as client:
        ask(client)
        dead = pod_of(agent="travel", version=serving() or "")
        assert dead
        delete(dead)
        until(lambda: answers(client), "a new pod answers")
    scale_operator(2)
    until(lambda: all(item["status"].get("readyReplicas") for item in read("deployments")), "all is ready")
    TALLY.survived += 1


def answers(client: httpx.Client) -> bool:
    try:
        ask(client)
    except httpx.HTTPError:
        return False
    return True


async def test_a_client_that_keeps_its_connection_notices_nothing_of_a_new_version() -> None:
    before, asked = serving(), 0
    TALLY.injected += 1
    apply(agent(args=["--max-num-seqs=8"]))
    target = f"{address()}/v1/chat/completions"
    body = {"model": "travel", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}
    async with httpx.AsyncClient(timeout=60) as client:
        while await asyncio.to_thread(old_pods, before or ""):
            (await client.post(target, json=body)).raise_for_status()
            asked += 1
    assert serving() != before
    assert asked > 10
    TALLY.survived += 1


def old_pods(version: str) -> list[Object]:
    return [pod for pod in read("pods") if labels_of(pod).get("subterra.dev/version") == version]


CLAUDE = {"name": "anthropic", "model": "claude-sonnet-4-6"}
JUDGES = {"simulator": CLAUDE, "judge": CLAUDE, "secondJudge": {"name": "openai", "model": "gpt-4.1"}}
SECRETS = {"anthropic": {"name": "no-such-secret"}, "openai": {"name": "no-such-secret"}}


def run(name: str, inputs: Object | None = None, **execution: Any) -> Object:
    """A run made by hand, small unless `inputs` says otherwise."""
    spec = {"inputs": {"procedureRef": {"name": "travel"}, **SMALL, **(inputs or {})}, "execution": execution}
    return {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompileRun", "metadata": {"name": name}, "spec": spec}


def says(kind: str, name: str, condition: str, reason: str, *words: str) -> bool:
    """Whether a condition is True with that reason and these words."""
    for item in read(kind, name).get("status", {}).get("conditions", []):
        if (item["type"], item["status"], item["reason"]) == (condition, "True", reason):
            return all(word in item["message"] for word in words)
    return False


@pytest.fixture
def temporary() -> Iterator[Callable[[Object], None]]:
    """Applies objects and deletes them afterwards."""
    made: list[tuple[str, str]] = []

    def made_for_now(obj: Object) -> None:
        apply(obj)
        made.append((obj["kind"].lower(), obj["metadata"]["name"]))

    apply(TRAVEL)
    yield made_for_now
    for kind, name in made:
        kubectl("delete", kind, name, "--ignore-not-found")


def test_a_missing_secret_is_named_by_the_kubelets_own_words(temporary: Callable[[Object], None]) -> None:
    temporary(run("poor", {"generation": {"teacher": CLAUDE}, "evaluation": JUDGES}, apiKeySecrets=SECRETS))
    until(lambda: says("compilerun", "poor", "Reconciling", "MissingSecret", 'secret "no-such-secret" not found'), "it is told")


def test_a_node_selector_that_matches_nothing_is_explained_by_the_scheduler(temporary: Callable[[Object], None]) -> None:
    temporary(run("lonely", generate={"nodeSelector": {"pool": "none"}, "schedulingDeadlineSeconds": 90}))
    words = "didn't match Pod's node affinity/selector"
    until(lambda: says("compilerun", "lonely", "Reconciling", "Unschedulable", words), "it is told")
    until(lambda: says("compilerun", "lonely", "Stalled", "SchedulingDeadlineExceeded", words), "it is given up")


def test_a_model_that_is_not_in_the_store_is_reported_with_the_words_of_the_check(temporary: Callable[[Object], None]) -> None:
    spec = {"model": {"uri": "pvc://models/none", "digest": "sha256:" + "c" * 64}}
    temporary({"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "metadata": {"name": "absent"}, "spec": spec})
    until(lambda: says("compiledagent", "absent", "Reconciling", "InitFailed", "init container verify failed"), "it is told")


def test_the_kubelet_ends_a_pod_whose_stage_takes_too_long(temporary: Callable[[Object], None]) -> None:
    temporary(run("slow", {"training": {"maxSteps": 100000, "batchSize": 2}}, train={"activeDeadlineSeconds": 60}))
    until(lambda: says("compilerun", "slow", "Stalled", "DeadlineExceeded", "activeDeadlineSeconds"), "it is ended")
