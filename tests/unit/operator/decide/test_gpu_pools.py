"""Pools by name, and what could not run with the GPUs that it asks for: refused before anything is spent, with the fix."""

from typing import Any

import pytest

from subterra_api.job_contract.artifacts import STAGES
from subterra_api.job_contract.environment import GPUS_VARIABLE, RANKS_VARIABLE, USD_PER_HOUR_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CostSettings
from subterra_api.v1alpha1.compilerun import CompileRunSpec, ExecutionSettings
from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.agent.price import usd_per_hour_of
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.run import decide_run
from subterra_operator.decide.unrunnable import serving_problems, stage_problems
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, RunSnapshot
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make

H200: Object = {
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "gpuType": "H200-141",
    "gpusPerNode": 8,
    "usdPerHour": "3.5",
}
POOLS = {"h200": H200, "odd": {**H200, "gpuType": "Z9000"}, "cpu": {"nodeSelector": {"disk": "fast"}}}
SETTINGS = Settings.model_validate({"pools": POOLS, "jobsGpuImage": "jobs-gpu:1"})
PLAIN = Settings()
QWEN = {"uri": "hf://Qwen/Qwen3-8B"}


def gpus(count: int, **pod: Any) -> Object:
    return {"resources": {"limits": {"nvidia.com/gpu": count, "memory": "200Gi"}}, **pod}


WRITTEN: Object = {"name": "generate", "state": "Succeeded", "attempt": 1, "percent": 100}


def run_on(train: Object, model: Object | None = None, status: Object | None = None) -> Object:
    run = make.run(status, execution={"train": train})
    run["spec"]["inputs"] |= {"baseModel": model} if model else {}
    return run


def decide(run: Object, settings: Settings, **parts: Any) -> Decision:
    return decide_run(RunSnapshot(run, procedure=make.procedure(), **parts), settings, make.NOW)


def refused(decision: Decision) -> str:
    """The message of a run that is refused and for which nothing is written."""
    assert decision.status
    assert decision.writes == ()
    assert decision.status["phase"] == "Failed"
    stalled = next(item for item in decision.status["conditions"] if item["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    return str(stalled["message"])


def pod_of(train: Object, settings: Settings = SETTINGS) -> Object:
    job = stage_job(make.run(), ExecutionSettings.model_validate({"train": train}), Attempt("train", 1), settings)
    pod: Object = job["spec"]["template"]["spec"]
    return pod


def values(container: Object) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container["env"]}


@pytest.mark.parametrize(
    ("train", "settings", "words"),
    [
        (
            gpus(1, pool="a100"),
            SETTINGS,
            "execution.train.pool: there is no pool a100; use one of cpu, h200, odd, or add it",
        ),
        (gpus(1, pool="a100"), PLAIN, "there is no pool a100; none is configured; add it to pools in the chart's values"),
        (gpus(1), PLAIN, "the image localhost/subterra/jobs:dev trains on CPUs only; build images/jobs-gpu and set images.jobsGpu"),
        (gpus(16, pool="h200"), SETTINGS, "asks for 16 nvidia.com/gpu, but a node of pool h200 has 8"),
        (gpus(8, ranks=2), SETTINGS, "execution.train.ranks is 2, but execution.train.resources asks for 8 nvidia.com/gpu"),
        ({"pool": "h200"}, SETTINGS, "h200 has GPUs, but execution.train.resources asks for none"),
    ],
)
def test_a_training_that_could_not_run_is_refused_before_anything_is_spent(train: Object, settings: Settings, words: str) -> None:
    assert words in refused(decide(run_on(train), settings))


def test_a_training_that_does_not_fit_the_card_of_its_pool_is_refused_with_what_would() -> None:
    assert refused(decide(run_on(gpus(1, pool="h200"), QWEN), SETTINGS)) == (
        "execution.train.pool: the training does not fit H200-141: 164 GB needed, 95 % of its 151 GB may be used; "
        "the smallest change that fits: training.optimizer: adamwbf16 with training.zeroStage: 0 (122 GB per GPU) "
        "or 2 GPUs with execution.train.ranks: 2 (93 GB per GPU)"
    )
    assert decide(run_on(gpus(2, pool="h200"), QWEN), SETTINGS).writes


@pytest.mark.parametrize(
    ("train", "model"),
    [
        (gpus(1, pool="odd"), QWEN),  # a card that is not known
        (gpus(1, pool="h200"), {"uri": "pvc://mine"}),  # a shape that is not known
        (gpus(1, nodeSelector=H200["nodeSelector"]), QWEN),  # a card that no pool vouches for
        ({"pool": "cpu"}, None),
        ({}, None),
    ],
)
def test_what_is_not_known_is_not_refused(train: Object, model: Object | None) -> None:
    assert decide(run_on(train, model), SETTINGS).writes


def test_a_stage_that_can_no_longer_run_when_its_turn_comes_is_refused_then_and_starts_once_it_can() -> None:
    run = run_on(gpus(1, pool="h200"), status={"stages": [WRITTEN]})
    frozen = make.frozen(run)
    assert "there is no pool h200" in refused(decide(run, Settings(jobs_gpu_image="jobs-gpu:1"), input=frozen))
    started = decide(run, SETTINGS, input=frozen)
    assert [write.object["metadata"]["name"] for write in started.writes if write.key.kind == "Job"] == ["travel-12345678-train-1"]


def test_a_retry_that_is_refused_is_made_once_the_cause_is_gone() -> None:
    failed = {"name": "train", "state": "Failed", "attempt": 1, "reason": "OutOfMemory", "message": "no memory"}
    status = {"stages": [WRITTEN, failed]}
    run = run_on(gpus(1), status=status)
    run["metadata"]["annotations"] = {"subterra.dev/retry-at": "2026-11-20T12:00:00Z"}
    frozen = make.frozen(run)
    decision = decide(run, PLAIN, input=frozen)
    assert "trains on CPUs only" in refused(decision)
    run["status"] = decision.status
    assert [write.key.name for write in decide(run, SETTINGS, input=frozen).writes if write.key.kind == "Job"] == [
        "travel-12345678-train-2"
    ]


def test_a_stage_that_has_ended_is_not_asked_for_its_pool_again() -> None:
    done = [{**WRITTEN, "name": name} for name in ("generate", "train")]
    run = run_on(gpus(1, pool="gone"), status={"stages": done})
    assert [write.key.kind for write in decide(run, PLAIN, input=make.frozen(run)).writes].count("Job") == 1


def test_a_pool_gives_a_pod_its_labels_and_tolerations_and_the_pod_s_own_win() -> None:
    own = {"key": "team", "operator": "Exists"}
    pod = pod_of(gpus(1, pool="h200", nodeSelector={"zone": "a", "nvidia.com/gpu.product": "Other"}, tolerations=[own]))
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "Other", "zone": "a"}
    assert pod["tolerations"] == [*H200["tolerations"], own]
    assert pod_of({"pool": "cpu"})["nodeSelector"] == {"disk": "fast"}
    assert "nodeSelector" not in pod_of({})


def test_there_is_a_rank_for_each_gpu_and_the_attempt_is_told_both() -> None:
    [main] = pod_of(gpus(8))["containers"]
    assert (values(main)[RANKS_VARIABLE], values(main)[GPUS_VARIABLE], main["image"]) == ("8", "8", "jobs-gpu:1")
    [main] = pod_of({"ranks": 2})["containers"]
    assert (values(main)[RANKS_VARIABLE], GPUS_VARIABLE in values(main), main["image"]) == ("2", False, SETTINGS.jobs_image)
    [config] = [write.object for write in decide(run_on(gpus(4)), SETTINGS).writes if write.key.kind == "ConfigMap"]
    assert RunInput.model_validate_json(config["data"]["input.json"]).ranks == 4


@pytest.mark.parametrize(
    ("train", "size"), [({}, "512Mi"), (gpus(1), "8Gi"), (gpus(1, sharedMemory="32Gi"), "32Gi"), ({"sharedMemory": "1Gi"}, "1Gi")]
)
def test_shared_memory_is_what_the_author_says_and_larger_with_gpus(train: Object, size: str) -> None:
    [shm] = [volume["emptyDir"]["sizeLimit"] for volume in pod_of(train)["volumes"] if volume["name"] == "shm"]
    assert shm == size


def served(serving: Object, settings: Settings, **spec: Any) -> Object:
    agent = make.agent(serving=serving, **spec)
    target = ServingTarget(Model("models/abc", "travel"), "sha256:" + "a" * 64)
    made = deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), target, settings, make.NOW)
    pod: Object = made["spec"]["template"]["spec"]
    return pod


def price_of(pod: Object) -> str:
    [exporter] = [container for container in pod["initContainers"] if container["name"] == "exporter"]
    return values(exporter)[USD_PER_HOUR_VARIABLE]


def test_a_replica_costs_what_its_gpus_cost_in_its_pool_unless_the_agent_says_otherwise() -> None:
    pod = served(gpus(2, pool="h200"), SETTINGS)
    assert price_of(pod) == "7"
    assert pod["nodeSelector"] == H200["nodeSelector"]
    assert price_of(served(gpus(2, pool="h200"), SETTINGS, cost={"usdPerHour": "1"})) == "1"
    assert price_of(served({"pool": "cpu"}, SETTINGS)) == price_of(served({}, SETTINGS)) == "2.50"
    assert usd_per_hour_of(make.agent(serving=gpus(2, pool="h200")), CostSettings(), SETTINGS.pools) == 7


def test_models_on_gpus_are_served_by_an_image_for_gpus() -> None:
    upstream = SETTINGS.model_copy(update={"serving_image": "vllm:1"})
    images = [served(serving, settings)["containers"][0]["image"] for serving in ({}, gpus(1)) for settings in (SETTINGS, upstream)]
    assert images == [SETTINGS.jobs_image, "vllm:1", "jobs-gpu:1", "vllm:1"]
    assert [*serving_problems(CompiledAgentSpec.model_validate(make.agent(serving=gpus(1))["spec"]).serving, upstream)] == []


@pytest.mark.parametrize(
    "name", ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.shared", "amd.com/gpu"]
)
def test_a_share_or_an_instance_of_a_gpu_is_served_by_an_image_for_gpus(name: str) -> None:
    assert served({"resources": {"limits": {name: 1}}}, SETTINGS)["containers"][0]["image"] == "jobs-gpu:1"
    assert served({"resources": {"limits": {name: 0}}}, SETTINGS)["containers"][0]["image"] == SETTINGS.jobs_image


@pytest.mark.parametrize(
    ("serving", "settings", "words"),
    [
        (gpus(1), PLAIN, "spec.serving.resources asks for a GPU, but the image localhost/subterra/jobs:dev has vLLM for CPUs only"),
        ({"pool": "tpu"}, SETTINGS, "spec.serving.pool: there is no pool tpu; use one of cpu, h200, odd"),
    ],
)
def test_an_agent_that_could_not_be_served_is_not_compiled_either(serving: Object, settings: Settings, words: str) -> None:
    agent = make.agent(serving=serving)
    decision = decide_agent(AgentSnapshot(agent, procedure=make.procedure()), settings, make.NOW)
    assert decision.writes == ()
    assert decision.status
    ready = next(item for item in decision.status["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "InvalidSpec"
    assert words in ready["message"]


def test_an_evaluation_on_gpus_needs_an_image_for_them() -> None:
    spec = CompileRunSpec.model_validate(make.run(execution={"evaluate": gpus(1)})["spec"])
    assert "execution.evaluate.resources asks for a GPU" in "".join(stage_problems("evaluate", spec, PLAIN))
    assert [problem for stage in STAGES for problem in stage_problems(stage, spec, SETTINGS)] == []
