"""On a real kubelet: pods and processes of every stage are killed, the operator goes away, versions change under a talking client.

Needs root and the images; `make test-exhaustive` starts the embedded cluster and builds them.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from tests.faults.conftest import TALLY
from tests.faults.node.node_namespace import PLACE, NodeNamespace, kill_processes, operated, until

from subterra_demo import steps
from subterra_operator.decide.decision import parse_time
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL

pytestmark = [pytest.mark.faults, pytest.mark.exhaustive, pytest.mark.timeout(3000)]
NAMESPACE = "faults"
HERE = NodeNamespace(NAMESPACE)
kubectl, read, apply, pod_of, delete = HERE.kubectl, HERE.read, HERE.apply, HERE.pod_of, HERE.delete
EXPLAINED_SECONDS = 60.0
"""The promise: within this a run or an agent says why its pod does not run."""
Temporary = Callable[[Object], None]
Mutating = Callable[..., None]
LENIENT = {"minScenarios": 1, "minScore": 1, "maxFailureRate": 1, "minConformance": 0, "minPhrasings": 0, "maxFabricationRate": 1}
SMALL = {
    "generation": {"conversations": 200},
    "training": {"maxSteps": 20, "batchSize": 2},
    "evaluation": {"scenarios": 40},
}


def agent(**serving: Any) -> Object:
    compile_ = {"procedureRef": {"name": "travel"}, "template": SMALL}
    spec = {"compile": compile_, "promotion": {"gate": LENIENT, "keepWarmSeconds": 0}, "serving": serving}
    return {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "metadata": {"name": "travel"}, "spec": spec}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """The embedded cluster with the operator, and an empty namespace."""
    with operated(HERE):
        yield


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
def temporary() -> Iterator[Temporary]:
    """Applies objects and deletes them afterwards."""
    made: list[tuple[str, str]] = []

    def made_for_now(obj: Object) -> None:
        apply(obj)
        made.append((obj["kind"].lower(), obj["metadata"]["name"]))

    apply(TRAVEL)
    yield made_for_now
    for kind, name in made:
        kubectl("delete", kind, name, "--ignore-not-found")


def explained(kind: str, name: str, reason: str, *words: str) -> None:
    """Waits until a resource says what is wrong with its pod; it must, within a minute after a node has accepted the pod."""
    until(lambda: says(kind, name, "Reconciling", reason, *words), f"{kind} {name} says {reason} and {words}")
    owner = {"compilerun": "run", "compiledagent": "agent"}[kind]
    [*_, pod] = sorted(pods_of(owner, name), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    since, found = pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"], read(kind, name)
    seconds = (last_status(found) - parse_time(since)).total_seconds()
    print(f"{kind} {name} said {reason} after {seconds:.0f} s")
    assert seconds <= EXPLAINED_SECONDS
    assert reason in kubectl("get", kind, name).split(), "the REASON column"


def pods_of(owner: str, name: str) -> list[Object]:
    return [pod for pod in read("pods") if labels_of(pod).get(f"subterra.dev/{owner}") == name]


def last_status(obj: Object) -> datetime:
    """When the operator last wrote the status, by the API server's clock."""
    return max(parse_time(entry["time"]) for entry in obj["metadata"]["managedFields"] if entry.get("subresource") == "status")


def test_a_missing_secret_is_named_by_the_kubelets_own_words_and_the_pod_starts_once_it_exists(temporary: Temporary) -> None:
    temporary(run("poor", {"generation": {"teacher": CLAUDE}, "evaluation": JUDGES}, apiKeySecrets=SECRETS))
    explained("compilerun", "poor", "MissingSecret", 'secret "no-such-secret" not found', "create that Secret")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "no-such-secret"}, "stringData": {"api-key": "sk-none"}}
    temporary(secret)
    until(lambda: pod_of(run="poor") or ended("poor"), "the pod starts")


def ended(name: str) -> bool:
    """Whether the main container of any of a run's pods has ended."""
    states = [item["state"] for pod in pods_of("run", name) for item in pod["status"].get("containerStatuses", [])]
    return any("terminated" in state for state in states)


def test_a_node_selector_that_matches_nothing_is_explained_by_the_scheduler(temporary: Temporary) -> None:
    temporary(run("lonely", generate={"nodeSelector": {"pool": "none"}, "schedulingDeadlineSeconds": 90}))
    words = "didn't match Pod's node affinity/selector"
    explained("compilerun", "lonely", "Unschedulable", words, "execution.generate.nodeSelector")
    until(lambda: says("compilerun", "lonely", "Stalled", "SchedulingDeadlineExceeded", words), "it is given up")


@pytest.mark.parametrize("path", ["models/none", "../../etc"], ids=["missing", "outside of the store"])
def test_a_model_that_is_not_in_the_store_is_reported_with_the_words_of_the_check(temporary: Temporary, path: str) -> None:
    spec = {"model": {"uri": f"pvc://{path}", "digest": "sha256:" + "c" * 64}}
    temporary({"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "metadata": {"name": "absent"}, "spec": spec})
    explained("compiledagent", "absent", "InitFailed", "init container verify failed", "correct spec.model.uri")


def test_the_kubelet_ends_a_pod_whose_stage_takes_too_long_and_until_then_it_is_heard(temporary: Temporary) -> None:
    temporary(run("slow", {"training": {"maxSteps": 100000, "batchSize": 2}}, train={"activeDeadlineSeconds": 60}))
    heard: list[str] = []

    def over() -> bool:
        stages = read("compilerun", "slow").get("status", {}).get("stages", [])
        heard.extend(stage["reportedAt"] for stage in stages if "reportedAt" in stage)
        return says("compilerun", "slow", "Stalled", "DeadlineExceeded", "activeDeadlineSeconds")

    until(over, "it is ended")
    assert heard, "no stage's progress was heard"


MAIN = 'Object.spec.containers{name: "main", %s}'
MOUNT = 'volumeMounts: [Object.spec.containers.volumeMounts{name: "absent", mountPath: "/absent"}]'
VOLUME = 'Object.spec.volumes{name: "absent", configMap: Object.spec.volumes.configMap{name: "absent"}}'
CRASH = 'name: "vllm", command: ["sh", "-c", "echo out of patience; exit 3"]'


@pytest.fixture
def mutating() -> Iterator[Mutating]:
    """Has the API server change new pods of a run, as a foreign admission policy does: a CEL expression for their spec."""
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"{NAMESPACE}-pods"}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    kind = "MutatingAdmissionPolicy"

    def mutate(name: str, expression: str, when: str = "true") -> None:
        mutations = [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": f"Object{{spec: {expression}}}"}}]
        chosen: Object = {"resourceRules": rules, "objectSelector": {"matchLabels": {"subterra.dev/run": name}}}
        spec: Object = {"matchConstraints": chosen, "mutations": mutations, "reinvocationPolicy": "Never", "failurePolicy": "Fail"}
        spec["matchConditions"] = [{"name": "chosen", "expression": when}]
        apply({**head, "kind": kind, "spec": spec})
        apply({**head, "kind": f"{kind}Binding", "spec": {"policyName": f"{NAMESPACE}-pods"}})
        until(lambda: mutates(name), "the policy is in force")

    yield mutate
    kubectl("delete", f"{kind},{kind}Binding", f"{NAMESPACE}-pods", "--ignore-not-found")


def mutates(name: str) -> bool:
    """Whether a pod of a run would be changed."""
    container = {"name": "main", "image": "none"}
    sidecar = {"name": "vllm", "image": "none", "restartPolicy": "Always"}
    spec = {"containers": [container], "initContainers": [sidecar]}
    metadata = {"name": "probe", "labels": {"subterra.dev/run": name}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    made = json.loads(kubectl("create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(pod)))
    main, vllm = made["spec"]["containers"][0], made["spec"]["initContainers"][0]
    absent = [mount for mount in main.get("volumeMounts", []) if mount["name"] == "absent"]
    return bool(main["image"] != "none" or absent or "command" in vllm)


def test_an_image_that_cannot_be_pulled_is_told_with_the_registrys_words(temporary: Temporary, mutating: Mutating) -> None:
    image = "localhost/subterra/no-such-image:1"
    mutating("pictureless", f'Object.spec{{containers: [{MAIN % f"""image: "{image}" """}]}}')
    temporary(run("pictureless"))
    explained("compilerun", "pictureless", "ImagePullFailed", f"image {image} cannot be pulled: ", "images.pullSecrets")


def test_a_volume_that_cannot_be_mounted_is_told_with_the_kubelets_words_and_the_pod_starts_once_it_can(
    temporary: Temporary, mutating: Mutating
) -> None:
    mutating("voluminous", f"Object.spec{{volumes: [{VOLUME}], containers: [{MAIN % MOUNT}]}}")
    temporary(run("voluminous"))
    explained("compilerun", "voluminous", "VolumeMountFailed", 'configmap "absent" not found')
    temporary({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "absent"}})
    until(lambda: pod_of(run="voluminous") or ended("voluminous"), "the pod starts")


def test_a_sidecar_that_restarts_again_and_again_is_told_with_its_last_words(temporary: Temporary, mutating: Mutating) -> None:
    crash = f"Object.spec{{initContainers: [Object.spec.initContainers{{{CRASH}}}]}}"
    mutating("impatient", crash, 'has(object.spec.initContainers) && object.spec.initContainers.exists(it, it.name == "vllm")')
    temporary(run("impatient", evaluate={"schedulingDeadlineSeconds": 600}))
    words = ("container vllm was restarted", "exit code 3: out of patience", "--container=vllm --previous")
    explained("compilerun", "impatient", "ContainerRestarting", *words)
