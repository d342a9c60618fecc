"""The vLLM container: one builder for evaluation and serving, so that a model is served as it was evaluated."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subterra_api.job_contract.defaults import training_of
from subterra_api.job_contract.environment import LOCAL_VLLM_URL, MODEL_SWITCH_FILE, STORE_MOUNT, VLLM_PORT
from subterra_api.v1alpha1.compilerun import BaseModelKind, CompileInputs, Reference
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_core.node_pools import wants_gpu
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.in_vllm import drain, drainable_vllm, one_at_a_time
from subterra_operator.specs.pod import HOME, container, effective_resources, env, mounts, resources

ALLOWED_FLAGS = frozenset(
    {
        "--block-size",
        "--chat-template-content-format",
        "--disable-log-requests",
        "--disable-log-stats",
        "--dtype",
        "--enable-auto-tool-choice",
        "--enable-chunked-prefill",
        "--enable-prefix-caching",
        "--enforce-eager",
        "--generation-config",
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--max-logprobs",
        "--max-model-len",
        "--max-num-batched-tokens",
        "--max-num-seqs",
        "--no-enable-chunked-prefill",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override",
        "--override-generation-config",
        "--pipeline-parallel-size",
        "--quantization",
        "--seed",
        "--swap-space",
        "--tensor-parallel-size",
        "--tool-call-parser",
        "--uvicorn-log-level",
    }
)
"""vLLM flags that an agent's author may set. None of them loads code, opens files or moves the port."""

REPLY_FLAGS = frozenset(
    {
        "--chat-template-content-format",
        "--dtype",
        "--generation-config",
        "--kv-cache-dtype",
        "--max-model-len",
        "--override-generation-config",
        "--quantization",
        "--seed",
    }
)
"""Those of them that may change what a model replies. The others change how fast, and on how many GPUs."""

SAMPLING = {"temperature": 0, "top_k": 0}
"""A compiled agent is a procedure: equal input takes the same edge. Clients may override it, so the model's own `top_k: 1` is
lifted; its `max_new_tokens` limits a reply where the client does not."""

CPU_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
CPU_BLOCK_SIZE = "32"
"""Tokens that vLLM caches as a unit, the least that its CPU kernels are made for. With its 128 each turn computes again what the
one before left of its last block, which is half of a short conversation."""
_CPU_FLAGS: dict[BaseModelKind, list[str]] = {
    "scratch": ["--dtype", "float32", "--enforce-eager"],  # a tiny model is as fast in float32, and exact
    "bundled": ["--dtype", drainable_vllm.BY_PROCESSOR, "--enforce-eager", "--block-size", CPU_BLOCK_SIZE],
}
"""Models of these kinds are served on CPUs, where the image has no compiler."""
_TOOL_FLAGS = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
"""Makes `tool_calls` of the calls that a model writes; only for models of procedures with tools."""
STARTUP_SECONDS = 3600
"""How long vLLM may load a model before the kubelet starts it again: 140 GB from a network volume take longer than ten minutes."""
PROBE_SECONDS = 2
DRAIN_SECONDS = 300
"""How long a terminating pod waits at most for requests in flight; a reply that takes longer is cut."""
QUIET_SECONDS = 5
"""How long nobody may have sent a request before a terminating pod ends."""


class RefusedArgumentError(ValueError):
    """An argument that is not in `ALLOWED_FLAGS`; the message names it and the allowed ones."""


@dataclass(frozen=True)
class Model:
    """A model that vLLM loads: ``path`` is relative to the store, ``name`` is what clients call it."""

    path: str
    name: str
    kind: BaseModelKind = "external"
    """Kind of the base model; those that are made for CPUs get flags for them."""
    max_length: int | None = None
    """Longest conversation in tokens; `None` leaves it to vLLM."""
    tools: bool = False
    """Whether it was trained to call tools."""
    container: str = "vllm"
    """The container's name; references share the pod with the candidate, so they need names of their own."""
    port: int = VLLM_PORT


def model_of(inputs: CompileInputs, path: str, name: str, *, tools: bool = False) -> Model:
    """The model that a run with these inputs produces; `tools` if its procedure has any."""
    kind = inputs.base_model.kind
    return Model(path, name, kind, training_of(inputs.training, kind).max_length, tools)


def reference_model(reference: Reference, index: int) -> Model:
    """A finished model that is served next to the candidate, named after its role, at one of the following ports."""
    role, kind = reference.role.lower(), reference.base_model.kind
    return Model(reference.model_path, role, kind, reference.max_length, reference.tools, f"vllm-{role}", VLLM_PORT + 1 + index)


def check_arguments(arguments: Sequence[str], field: str = "spec.serving.args") -> None:
    """Raises RefusedArgumentError for the first flag that is not allowed."""
    for argument in arguments:
        flag = argument.partition("=")[0].partition(" ")[0]
        if flag.startswith("-") and not _is_number(flag) and flag not in ALLOWED_FLAGS:
            allowed = ", ".join(sorted(ALLOWED_FLAGS))
            raise RefusedArgumentError(f"{field}: {flag} is not allowed; remove it or use one of: {allowed}")


def reply_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments that may change replies, each with its value."""
    chosen, wanted = list[str](), False
    for argument in arguments:
        if argument.startswith("-") and not _is_number(argument):
            wanted = argument.partition("=")[0].partition(" ")[0] in REPLY_FLAGS
        if wanted:
            chosen.append(argument)
    return chosen


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def command(model: Model, arguments: Sequence[str]) -> list[str]:
    """The command line; the author's arguments come last, because vLLM obeys the last of two."""
    # Not by `vllm serve`: vLLM's CPU distribution has another name, which breaks it.
    line = ["python3", "-c", inspect.getsource(drainable_vllm), "--middleware", f"__main__.{drainable_vllm.Drainable.__name__}"]
    line += ["--model", f"{STORE_MOUNT}/{model.path}"]
    line += ["--served-model-name", model.name, "--host", "0.0.0.0"]  # noqa: S104
    line += ["--port", str(model.port), "--generation-config", "auto", "--override-generation-config", json.dumps(SAMPLING)]
    if model.max_length:
        line += ["--max-model-len", str(model.max_length)]
    line += _CPU_FLAGS.get(model.kind, [])
    line += _TOOL_FLAGS if model.tools else []
    return [*line, *arguments]


def drain_command(url: str = f"{LOCAL_VLLM_URL}{drainable_vllm.IDLE_PATH}", quiet: float = QUIET_SECONDS) -> list[str]:
    """A command that ends once no request has been in flight for ``quiet`` seconds. Needs only Python."""
    return ["python3", "-c", inspect.getsource(drain), url, f"{quiet:g}", f"{DRAIN_SECONDS:g}"]


def models_in_turn(
    settings: Settings, models: Sequence[Model], arguments: Sequence[str], requested: ResourceRequirements
) -> Object:
    """One container that serves one of the models at a time, each at its own port: the one that `MODEL_SWITCH_FILE` names.

    It has no probes: it counts as started although no model is served yet.
    """
    served = vllm_container(settings, models[0], arguments, requested)
    commands = {model.name: command(model, arguments) for model in models}
    served["command"] = ["python3", "-c", inspect.getsource(one_at_a_time), MODEL_SWITCH_FILE, json.dumps(commands)]
    served["ports"] = [{"name": port_name(model), "containerPort": model.port} for model in models]
    return {name: value for name, value in served.items() if name not in ("startupProbe", "readinessProbe")}


def port_name(model: Model) -> str:
    """Name of the model's port, which is unique in its pod."""
    return "http" if model.port == VLLM_PORT else model.container


def vllm_container(
    settings: Settings,
    model: Model,
    arguments: Sequence[str] = (),
    requested: ResourceRequirements | None = None,
    extra: Mapping[str, object] | None = None,
) -> Object:
    """The model's container, ready once ``/health`` answers. Raises RefusedArgumentError."""
    check_arguments(arguments)
    working = effective_resources(requested or ResourceRequirements(), settings.resources.vllm)
    port = port_name(model)
    health = {"httpGet": {"path": "/health", "port": port}, "timeoutSeconds": 5}
    parts = {
        "command": command(model, arguments),
        "env": env({**HOME, **CPU_ENVIRONMENT, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}),
        "ports": [{"name": port, "containerPort": model.port}],
        "startupProbe": {**health, "periodSeconds": PROBE_SECONDS, "failureThreshold": STARTUP_SECONDS // PROBE_SECONDS},
        "readinessProbe": {**health, "periodSeconds": 5},
        "resources": resources(working, settings.resources.vllm),
        "volumeMounts": mounts(read_only=True),
        **(extra or {}),
    }
    return container(model.container, settings.vllm_image(gpu=wants_gpu(working)), settings, parts)
