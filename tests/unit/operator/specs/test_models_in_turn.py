"""Models that are served one after another in an evaluation's pod: one GPU, one server, everything else as side by side."""

import json
from typing import Any

import pytest

from subterra_api.job_contract.environment import (
    MODEL_SWITCH_FILE,
    MODEL_SWITCH_VARIABLE,
    REFERENCES_VARIABLE,
    SERVING_ARGS_VARIABLE,
)
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunSpec, ExecutionSettings, Reference
from subterra_operator.decide.unrunnable import stage_problems
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.compile_run import compile_run
from subterra_operator.specs.stage_job import CANDIDATE, Attempt, stage_job
from subterra_operator.specs.vllm_container import Model, command, reference_model
from subterra_testkit.cluster import kubernetes_objects as make

DIGEST = "sha256:" + "a" * 64
CANDIDATE_MODEL = Model("models/abc", CANDIDATE, "scratch", max_length=1024)
REFERENCES = tuple(
    reference_model(Reference(role=role, run="travel-1", model_digest=DIGEST, model_path="models/old"), index)
    for index, role in enumerate(("Serving", "Anchor"))
)
ONE_GPU = {"limits": {"nvidia.com/gpu": 1, "memory": "40Gi"}}


def evaluation(models: str | None, *compared: Model, attach: bool = False, **pod: Any) -> Object:
    """The Job's spec, with this setting of `execution.evaluate.models`."""
    execution = ExecutionSettings.model_validate(
        {"evaluate": {"resources": ONE_GPU, **({"models": models} if models else {}), **pod}}
    )
    attempt = Attempt("evaluate", 1, attach)
    spec: Object = stage_job(make.run(), execution, attempt, Settings(), (CANDIDATE_MODEL, *compared))["spec"]
    return spec


def gpus(job: Object) -> int:
    """GPUs that all containers of the pod ask for; sidecars run at the same time as the others."""
    pod = job["template"]["spec"]
    found = [*pod["containers"], *pod.get("initContainers", [])]
    return sum(int(each["resources"].get("limits", {}).get("nvidia.com/gpu", 0)) for each in found)


def variables(job: Object) -> dict[str, str]:
    [main] = job["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in main["env"]}


@pytest.mark.parametrize("compared", [(), REFERENCES[:1], REFERENCES], ids=["alone", "with what serves", "with an anchor too"])
def test_a_pod_never_asks_for_more_than_one_gpu_however_many_models_it_compares(compared: tuple[Model, ...]) -> None:
    assert gpus(evaluation("Sequential", *compared)) == 1
    assert gpus(evaluation("Parallel", *compared)) == 1 + len(compared)


def test_each_model_has_the_command_and_the_port_that_it_has_side_by_side() -> None:
    apart = evaluation("Parallel", *REFERENCES)["template"]["spec"]["initContainers"]
    [server] = evaluation("Sequential", *REFERENCES)["template"]["spec"]["initContainers"]
    *_, file, commands = server["command"]
    assert file == MODEL_SWITCH_FILE
    assert list(json.loads(commands).values()) == [each["command"] for each in apart]
    assert [*json.loads(commands)] == [CANDIDATE, "serving", "anchor"]
    assert json.loads(commands)["anchor"] == command(REFERENCES[1], ())
    assert server["ports"] == [port for each in apart for port in each["ports"]]
    assert (server["image"], server["resources"]) == (apart[0]["image"], apart[0]["resources"])
    assert (server["name"], server["restartPolicy"]) == ("vllm", "Always")
    assert not {"startupProbe", "readinessProbe"} & server.keys(), "no model is served before the evaluation asks for one"


ARGUMENTS = ["--quantization", "fp8", "--max-num-seqs=8", "--tensor-parallel-size", "2", "--max-model-len=2048", "--enforce-eager"]


def test_what_changes_replies_is_judged_as_it_will_be_served_and_the_rest_stays_with_serving() -> None:
    agent = make.agent(serving={"args": ARGUMENTS})
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    assert spec.compile
    run = compile_run(agent, spec, spec.compile, DIGEST)
    assert run["spec"]["execution"]["servingArgs"] == ["--quantization", "fp8", "--max-model-len=2048"]
    assert run["metadata"]["name"] == compile_run(make.agent(), spec, spec.compile, DIGEST)["metadata"]["name"]


@pytest.mark.parametrize("models", ["Parallel", "Sequential"])
def test_every_model_of_an_evaluation_is_served_with_these_arguments(models: str) -> None:
    execution = ExecutionSettings.model_validate({"evaluate": {"models": models}, "servingArgs": ["--quantization=fp8"]})
    made = stage_job(make.run(), execution, Attempt("evaluate", 1), Settings(), (CANDIDATE_MODEL, *REFERENCES))["spec"]
    servers = made["template"]["spec"]["initContainers"]
    commands = (
        [json.loads(servers[0]["command"][-1]).values()] if models == "Sequential" else [[each["command"] for each in servers]]
    )
    assert [line[-1] for found in commands for line in found] == ["--quantization=fp8"] * 3
    assert json.loads(variables(made)[SERVING_ARGS_VARIABLE]) == ["--quantization=fp8"]
    assert SERVING_ARGS_VARIABLE not in variables(evaluation(models, *REFERENCES))


def test_a_run_by_hand_may_set_no_argument_that_an_agent_may_not() -> None:
    inputs = make.run()["spec"]["inputs"]
    spec = CompileRunSpec.model_validate({"inputs": inputs, "execution": {"servingArgs": ["--trust-remote-code"]}})
    [problem] = stage_problems("evaluate", spec, Settings())
    assert problem.startswith("spec.execution.servingArgs: --trust-remote-code is not allowed")


def test_the_evaluation_is_told_where_to_name_the_model_that_it_needs() -> None:
    in_turn, apart = (evaluation(models, *REFERENCES) for models in ("Sequential", "Parallel"))
    assert variables(in_turn).pop(MODEL_SWITCH_VARIABLE) == MODEL_SWITCH_FILE
    assert variables(in_turn)[REFERENCES_VARIABLE] == variables(apart)[REFERENCES_VARIABLE]
    [server], [main] = (in_turn["template"]["spec"][part] for part in ("initContainers", "containers"))
    folder = MODEL_SWITCH_FILE.rpartition("/")[0]
    assert all(folder in [mount["mountPath"] for mount in each["volumeMounts"]] for each in (server, main)), "both see the file"


def test_side_by_side_is_the_default_and_the_job_is_as_it_was() -> None:
    assert evaluation(None, *REFERENCES) == evaluation("Parallel", *REFERENCES)
    assert MODEL_SWITCH_VARIABLE not in variables(evaluation(None, *REFERENCES))


def test_models_one_after_another_have_as_much_time_as_each_would_have() -> None:
    def seconds(models: str, **pod: Any) -> int:
        return int(evaluation(models, *REFERENCES, **pod)["template"]["spec"]["activeDeadlineSeconds"])

    assert seconds("Parallel") == 6 * 3600
    assert seconds("Sequential") == 18 * 3600
    assert seconds("Sequential", activeDeadlineSeconds=600) == 600


def test_reading_a_result_back_starts_no_server() -> None:
    attached = evaluation("Sequential", *REFERENCES, attach=True)
    assert "initContainers" not in attached["template"]["spec"]
