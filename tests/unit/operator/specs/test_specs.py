"""What the builders make: every pod is restricted, nothing changes that should not restart a pod."""

import copy
import json
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import STAGES, Stage
from subterra_api.job_contract.environment import (
    BUDGET_VARIABLE,
    CONCURRENCY_VARIABLE,
    ENDPOINTS_VARIABLE,
    GATE_VARIABLE,
    JUDGING_VARIABLE,
    PRICES_VARIABLE,
    REFERENCES_VARIABLE,
)
from subterra_api.job_contract.messages import Budget, ExitCode, Gate
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.compilerun import BaseModelSource, CompileInputs, ExecutionSettings, GatePolicy, Reference
from subterra_core.pricing import parse_prices
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.compile_run import compile_run
from subterra_operator.specs.deployment import ServingTarget, deployment, version_of
from subterra_operator.specs.pod import NAME_LIMIT, truncate_name
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_operator.specs.vllm_container import (
    ALLOWED_FLAGS,
    Model,
    RefusedArgumentError,
    check_arguments,
    command,
    model_of,
    reference_model,
)
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
SCRATCH = Model("models/abc", "travel", "scratch", max_length=1024)
DIGEST = "sha256:" + "a" * 64
REFERENCES = [
    reference_model(Reference(role=role, run="travel-1", model_digest=DIGEST, model_path="models/old"), index)
    for index, role in enumerate(("Serving", "Anchor"))
]


def job(stage: Stage, **execution: Any) -> Object:
    models = (SCRATCH,) if stage == "evaluate" else ()
    return stage_job(make.run(), ExecutionSettings.model_validate(execution), Attempt(stage, 1), SETTINGS, models)


def serving(**spec: Any) -> Object:
    agent = make.agent(**spec)
    target = ServingTarget(SCRATCH, DIGEST, "travel-1", 6.5)
    return deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), target, SETTINGS, make.NOW)


PODS = {**{stage: job(stage)["spec"]["template"] for stage in STAGES}, "serving": serving()["spec"]["template"]}


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_restricted(name: str) -> None:
    pod = PODS[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        security = container["securityContext"]
        assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_each_exit_code_has_a_rule_of_its_own() -> None:
    rules = job("train")["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"]["values"] for rule in rules] == [[int(code)] for code in ExitCode if code]


def test_an_attempt_is_the_operators_and_a_job_stays_until_its_run_goes() -> None:
    spec = job("generate")["spec"]
    assert spec["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in spec


def keys_in(stage: Stage, execution: Object) -> Object:
    """The keys that a stage of a paid run gets: name of the variable → Secret."""
    models = (SCRATCH,) if stage == "evaluate" else ()
    made = stage_job(make.paid_run(), ExecutionSettings.model_validate(execution), Attempt(stage, 1), SETTINGS, models)
    [main] = made["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item["valueFrom"]["secretKeyRef"]["name"] for item in main["env"] if "valueFrom" in item}


def test_only_stages_that_pay_get_keys_and_only_those_that_they_need() -> None:
    execution: Object = {"apiKeySecret": {"name": "mine"}, "apiKeySecrets": {"openai": {"name": "theirs"}}}
    assert keys_in("generate", execution) == {"ANTHROPIC_API_KEY": "mine"}
    assert keys_in("train", execution) == {}
    assert keys_in("evaluate", execution) == {"ANTHROPIC_API_KEY": "mine", "OPENAI_API_KEY": "theirs"}


def test_a_providers_own_key_comes_before_that_of_the_teacher() -> None:
    execution: Object = {"apiKeySecret": {"name": "mine"}, "apiKeySecrets": {"anthropic": {"name": "other"}}}
    assert keys_in("generate", execution) == {"ANTHROPIC_API_KEY": "other"}


@pytest.mark.parametrize(("stage", "told"), [("generate", True), ("train", False), ("evaluate", True)])
def test_only_stages_that_pay_are_told_the_caps(stage: Stage, told: bool) -> None:
    main = job(stage, maxUSD="5", maxUSDPer30Days="50.5")["spec"]["template"]["spec"]["containers"][0]
    found = [Budget.model_validate_json(item["value"]) for item in main["env"] if item["name"] == BUDGET_VARIABLE]
    assert found == [Budget(max_usd="5", max_usd_per_30_days="50.5")] * told


def test_the_agents_budget_is_its_runs() -> None:
    agent = make.agent(budget={"maxUSDPerRun": "5", "maxUSDPer30Days": "50"})
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    assert spec.compile
    execution = compile_run(agent, spec, spec.compile, DIGEST)["spec"]["execution"]
    assert (execution["maxUSD"], execution["maxUSDPer30Days"]) == ("5", "50")


def test_the_candidate_is_served_beside_the_evaluation_as_it_will_be_served_later() -> None:
    [sidecar] = job("evaluate")["spec"]["template"]["spec"]["initContainers"]
    [server] = serving()["spec"]["template"]["spec"]["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "readinessProbe" not in sidecar
    assert sidecar["command"] == server["command"]


def test_references_are_served_beside_the_candidate_each_at_its_own_port() -> None:
    made = stage_job(make.run(), ExecutionSettings(), Attempt("evaluate", 1), SETTINGS, (SCRATCH, *REFERENCES))
    pod = made["spec"]["template"]["spec"]
    [main], sidecars = pod["containers"], pod["initContainers"]
    assert [each["name"] for each in sidecars] == ["vllm", "vllm-serving", "vllm-anchor"]
    assert [each["ports"][0]["containerPort"] for each in sidecars] == [8000, 8001, 8002]
    assert len({each["ports"][0]["name"] for each in sidecars}) == 3
    for sidecar in sidecars:
        assert sidecar["startupProbe"]["httpGet"]["port"] == sidecar["ports"][0]["name"]
        assert str(sidecar["ports"][0]["containerPort"]) in sidecar["command"]
    assert [each["command"][each["command"].index("--served-model-name") + 1] for each in sidecars[1:]] == ["serving", "anchor"]
    told = {item["name"]: item["value"] for item in main["env"]}
    assert json.loads(told[REFERENCES_VARIABLE]) == ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]
    attached = stage_job(make.run(), ExecutionSettings(), Attempt("evaluate", 1, attach=True), SETTINGS, (SCRATCH, *REFERENCES))
    assert "initContainers" not in attached["spec"]["template"]["spec"]


def test_an_evaluation_on_gpus_keeps_them_busy() -> None:
    def told(execution: ExecutionSettings) -> dict[str, str]:
        pod = stage_job(make.run(), execution, Attempt("evaluate", 1), SETTINGS, (SCRATCH,))["spec"]["template"]["spec"]
        return {item["name"]: item.get("value", "") for item in pod["containers"][0]["env"]}

    gpu = ExecutionSettings.model_validate({"evaluate": {"resources": {"limits": {"nvidia.com/gpu": 1}}}})
    assert told(gpu)[CONCURRENCY_VARIABLE] == "50"
    assert CONCURRENCY_VARIABLE not in told(ExecutionSettings())


@pytest.mark.parametrize(("stage", "told"), [("generate", False), ("train", False), ("evaluate", True)])
def test_only_an_evaluation_whose_judges_are_asked_in_batches_is_told_so(stage: Stage, told: bool) -> None:
    def values(mode: str) -> list[str]:
        main = job(stage, judging={"mode": mode, "waitMinutes": 60})["spec"]["template"]["spec"]["containers"][0]
        return [item["value"] for item in main["env"] if item["name"] == JUDGING_VARIABLE]

    assert [json.loads(value) for value in values("Batch")] == [{"mode": "Batch", "waitMinutes": 60}] * told
    assert values("Interactive") == []


@pytest.mark.parametrize(("stage", "told"), [("generate", False), ("train", False), ("evaluate", True)])
def test_only_the_evaluation_is_told_what_the_candidate_must_reach(stage: Stage, told: bool) -> None:
    run = make.run()
    run["spec"]["attempt"] = 3
    execution = ExecutionSettings(gate=GatePolicy(margin=0.5))
    made = stage_job(run, execution, Attempt(stage, 1), SETTINGS, (SCRATCH,) * told)
    [main] = made["spec"]["template"]["spec"]["containers"]
    found = [Gate.model_validate_json(item["value"]) for item in main["env"] if item["name"] == GATE_VARIABLE]
    assert found == [Gate(policy=GatePolicy(margin=0.5), attempt=3)] * told


def test_serving_pods_cannot_write_to_the_store() -> None:
    [server] = serving()["spec"]["template"]["spec"]["containers"]
    [store] = [mount for mount in server["volumeMounts"] if mount["name"] == "store"]
    assert store["readOnly"] is True


def test_a_model_is_verified_at_each_start_of_a_pod_before_anything_else_runs() -> None:
    for spec in ({}, {"compile": None, "model": {"uri": "pvc://models/abc", "digest": DIGEST}}):
        verify = serving(**spec)["spec"]["template"]["spec"]["initContainers"][0]
        assert verify["command"] == ["python", "-m", "subterra_jobs.store.verify", "models/abc", DIGEST]
        assert "restartPolicy" not in verify, "the others wait until it has succeeded"


def test_verifying_has_the_cores_that_are_reserved_for_vllm_and_takes_no_gpu() -> None:
    wanted = {"requests": {"cpu": "6"}, "limits": {"cpu": "8", "memory": "40Gi", "nvidia.com/gpu": "1"}}
    pod = serving(serving={"resources": wanted})["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == wanted
    assert pod["initContainers"][0]["resources"] == {"requests": {"cpu": "6"}, "limits": {"cpu": "8", "memory": "40Gi"}}


def test_a_queue_is_a_label_of_the_job() -> None:
    assert job("train", queueName="gpus")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_the_author_of_an_agent_may_say_what_is_allowed_and_nothing_that_loads_code() -> None:
    check_arguments(["--max-num-seqs", "8", "--seed=-1", "--enforce-eager"])
    for argument in ("--trust-remote-code", "--middleware=evil", "--chat-template=/etc/passwd", "--port"):
        with pytest.raises(RefusedArgumentError, match="is not allowed"):
            check_arguments([argument])
    assert not {flag for flag in ALLOWED_FLAGS if "code" in flag or "plugin" in flag or "middleware" in flag}


def test_the_authors_arguments_come_last_so_that_they_win() -> None:
    assert command(SCRATCH, ["--max-model-len", "512"])[-2:] == ["--max-model-len", "512"]


def command_for(uri: str) -> list[str]:
    """The command that serves what a run with this base model makes."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "baseModel": {"uri": uri}})
    return command(model_of(inputs, "models/abc", "travel"), ["--max-num-seqs", "8"])


def test_a_model_from_scratch_is_served_by_the_command_that_it_always_had() -> None:
    """Golden: a version that is deployed keeps its command, and new ones should differ for a reason only."""
    interpreter, option, program, *arguments = command_for("scratch")
    assert (interpreter, option) == ("python3", "-c") and "vllm.entrypoints.openai.api_server" in program
    assert " ".join(arguments) == (
        "--middleware __main__.Drainable --model /store/models/abc --served-model-name travel --host 0.0.0.0"
        ' --port 8000 --generation-config auto --override-generation-config {"temperature": 0, "top_k": 0}'
        " --max-model-len 1024 --dtype float32 --enforce-eager --max-num-seqs 8"
    )


@pytest.mark.parametrize(
    ("uri", "flags"),
    [
        ("scratch", ["--max-model-len", "1024", "--dtype", "float32", "--enforce-eager"]),
        (
            "bundled://SmolLM2-135M-Instruct",
            ["--max-model-len", "2048", "--dtype", "by-processor", "--enforce-eager", "--block-size", "32"],
        ),
        ("hf://Qwen/Qwen2.5-3B-Instruct", ["--max-model-len", "4096"]),
        ("pvc://mine", ["--max-model-len", "4096"]),
    ],
)
def test_a_model_is_served_in_the_precision_of_its_kind_and_an_external_one_as_vllm_likes(uri: str, flags: list[str]) -> None:
    served = command_for(uri)
    sampling = served.index("--override-generation-config")
    assert served[sampling + 2 :] == [*flags, "--max-num-seqs", "8"]
    assert served[: sampling + 2] == command_for("scratch")[: sampling + 2]
    reference = Reference(
        role="Serving",
        run="r",
        model_digest=DIGEST,
        model_path="models/abc",
        base_model=BaseModelSource(uri=uri),
        max_length=int(flags[1]),
    )
    assert command(reference_model(reference, 0), [])[sampling + 2 :] == flags


def test_the_version_is_the_model_and_the_way_it_is_served() -> None:
    """Golden: if this changes, every agent in the world starts new pods after an operator upgrade."""
    spec = ServingSettings.model_validate({"args": ["--max-num-seqs=8"], "replicas": 3})
    assert version_of(ServingTarget(SCRATCH, DIGEST, "travel-1", 6.5), spec) == "6bafd9fb"


def test_the_runs_name_is_its_inputs() -> None:
    """Golden: if this changes, every agent in the world compiles anew after an operator upgrade."""
    agent = make.agent(compile={"procedureRef": {"name": "travel"}, "template": {"evaluation": {"scenarios": 100}}})
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    assert spec.compile
    assert compile_run(agent, spec, spec.compile, DIGEST)["metadata"]["name"] == "travel-51a22685"
    other = copy.deepcopy(agent)
    other["spec"] |= {
        "cost": {"usdPerHour": "1"},
        "budget": {"maxUSDPerRun": "5", "maxUSDPer30Days": "50"},
        "serving": {"replicas": 2},
    }
    spec = CompiledAgentSpec.model_validate(other["spec"])
    assert spec.compile
    assert compile_run(other, spec, spec.compile, DIGEST)["metadata"]["name"] == "travel-51a22685"


def test_a_long_name_is_cut_and_stays_one_of_its_kind() -> None:
    first, second = truncate_name("a" * 80 + "1"), truncate_name("a" * 80 + "2")
    assert len(first) <= NAME_LIMIT
    assert first != second


def test_only_stages_that_need_it_may_leave_the_namespace() -> None:
    found = {policy["metadata"]["name"]: policy["spec"] for policy in network_policies("demo", SETTINGS)}
    assert found["subterra-default"]["policyTypes"] == ["Ingress", "Egress"]
    assert found["subterra-default"]["egress"] == [{"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]
    outward = {name for name, spec in found.items() if any("to" in rule for rule in spec.get("egress", []))}
    assert outward == {"subterra-providers", "subterra-hub", "subterra-registry", "subterra-nodes"}
    assert [list(peer) for rule in found["subterra-nodes"]["egress"] for peer in rule["to"]] == [["podSelector"]], (
        "in the namespace"
    )
    assert found["subterra-registry"]["podSelector"]["matchLabels"]["subterra.dev/registry"] == "true"
    stages = found["subterra-providers"]["podSelector"]["matchExpressions"][0]["values"]
    assert stages == ["generate", "evaluate"]


OWN = "http://teacher.models.svc:8000/v1"


def openai_job(endpoint: Object | None, url: str = OWN) -> dict[str, Any]:
    """The environment of a generate Job whose teacher is behind ``url``."""
    settings = Settings.model_validate({"openai": {"endpoints": [endpoint] if endpoint else []}})
    run = make.run(execution={"apiKeySecret": {"name": "mine"}})
    run["spec"]["inputs"]["generation"] = {"teacher": {"name": "openai", "model": "qwen", "baseURL": url}}
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    [main] = stage_job(run, execution, Attempt("generate", 1), settings)["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in main["env"]}


def test_a_job_is_told_the_endpoints_that_the_administrator_lists_and_gets_the_key_of_its_own_provider() -> None:
    found = openai_job({"baseURL": OWN})
    assert json.loads(found[ENDPOINTS_VARIABLE]) == [OWN]
    assert ENDPOINTS_VARIABLE not in openai_job(None)
    assert found["OPENAI_API_KEY"] == {"secretKeyRef": {"name": "mine", "key": "apiKey"}}
    assert "ANTHROPIC_API_KEY" not in found


def test_an_endpoint_of_ones_own_costs_nothing_if_the_administrator_says_so() -> None:
    assert parse_prices(openai_job({"baseURL": OWN, "free": True})[PRICES_VARIABLE])["qwen"].costs_money is False
    assert PRICES_VARIABLE not in openai_job({"baseURL": OWN})
    assert PRICES_VARIABLE not in openai_job({"baseURL": OWN, "free": True}, url=f"{OWN}.elsewhere")


def test_an_endpoint_in_the_cluster_is_reached_through_the_policy_of_the_stages_that_pay() -> None:
    settings = Settings.model_validate({"openai": {"endpoints": [{"baseURL": OWN, "namespace": "models"}]}})
    opened = [policy["metadata"]["name"] for policy in network_policies("demo", settings) if "models" in str(policy["spec"])]
    assert opened == ["subterra-providers"]


def hub_variables(uri: str, execution: Object, endpoint: str | None = None) -> dict[str, Any]:
    """The hub's variables of a train Job."""
    run = make.run(execution=execution)
    run["spec"]["inputs"]["baseModel"] = {"uri": uri}
    settings = Settings.model_validate({"hub": {"endpoint": endpoint}})
    job = stage_job(run, ExecutionSettings.model_validate(execution), Attempt("train", 1), settings)
    [main] = job["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in main["env"] if item["name"].startswith("HF_")}


def test_only_a_training_from_a_hub_gets_its_token_and_address() -> None:
    execution: Object = {"hubTokenSecret": {"name": "hub", "key": "token"}}
    expected = {"HF_TOKEN": {"secretKeyRef": {"name": "hub", "key": "token"}}, "HF_ENDPOINT": "https://mirror"}
    assert hub_variables("hf://org/name", execution, "https://mirror") == expected
    assert hub_variables("hf://org/name", {}) == {}
    assert hub_variables("pvc://name", execution, "https://mirror") == {}
