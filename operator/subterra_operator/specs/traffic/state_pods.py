"""Conversation states: what `serving.conversationState` adds to an agent's pods. Without the field a pod is as before.

A middleware in vLLM takes the requests, so that the agent's address, key and callers hold for them too, and passes them to a native
sidecar that reads them. A socket in a folder of the pod is between the two, which no network reaches.
"""

from dataclasses import replace

from subterra_api.job_contract.environment import (
    MODEL_PATH_VARIABLE,
    STATE_MOUNT,
    STATE_SOCKET,
    STATE_SOCKET_VARIABLE,
)
from subterra_api.v1alpha1.pod_settings import ConversationStateSettings, ResourceRequirements
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, PodParts, container, env, mounts, resources

ROUTE_MODULE = "subterra_state"
PROGRAM = "subterra_jobs.evaluate.analysis.served.state"
CONTAINER = "state"
DEFAULT_RESOURCES = ResourceRequirements(requests={"cpu": "100m", "memory": "1Gi"}, limits={"cpu": "1", "memory": "1536Mi"})
"""It holds a sentence encoder, and reads one conversation at a time."""
_SHARED: Object = {"name": CONTAINER, "mountPath": STATE_MOUNT}
_PROGRAM_START = 3
"""Arguments of vLLM's command before the first of its own: interpreter, option and source."""


def with_state(parts: PodParts, wanted: ConversationStateSettings, model_path: str, folder: Object, settings: Settings) -> PodParts:
    """The pod with the route and its reader. ``folder`` mounts the volume with middleware of ours, added unless it is there."""
    (vllm,) = parts.containers
    volume: Object = {"name": folder["name"], "emptyDir": {"sizeLimit": "1Mi"}}
    shared: Object = {"name": CONTAINER, "emptyDir": {"sizeLimit": "1Mi"}}
    return replace(
        parts,
        containers=[_asking(vllm, folder)],
        init_containers=[*parts.init_containers, _route_file(folder, settings), _reader(wanted, model_path, settings)],
        volumes=[*parts.volumes, *([] if volume in parts.volumes else [volume]), shared],
    )


def _asking(vllm: Object, folder: Object) -> Object:
    """vLLM's container with the route as its innermost middleware: what ends connections, drains and guards is around it."""
    mounted: Object = {**folder, "readOnly": True}
    command = vllm["command"]
    variables = [*vllm["env"], *env({STATE_SOCKET_VARIABLE: STATE_SOCKET})]
    route = ["--middleware", f"{ROUTE_MODULE}.StateRoute"]
    return {
        **vllm,
        "command": [*command[:_PROGRAM_START], *route, *command[_PROGRAM_START:]],
        "workingDir": folder["mountPath"],
        "env": sorted(variables, key=lambda variable: str(variable["name"])),
        "volumeMounts": [*vllm["volumeMounts"], *([] if mounted in vllm["volumeMounts"] else [mounted]), _SHARED],
    }


def _route_file(folder: Object, settings: Settings) -> Object:
    """An init container that provides the route's file."""
    parts = {
        "command": ["python", "-m", f"{PROGRAM}.state_route", folder["mountPath"]],
        "env": env(HOME),
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [folder],
    }
    return container("state-route", settings.jobs_image, settings, parts)


def _reader(wanted: ConversationStateSettings, model_path: str, settings: Settings) -> Object:
    """A native sidecar. Nothing waits for it: until it can read, it says so."""
    values = {**HOME, STATE_SOCKET_VARIABLE: STATE_SOCKET, MODEL_PATH_VARIABLE: model_path}
    parts = {
        "command": ["python", "-m", PROGRAM],
        "env": env(values),
        "resources": resources(wanted.resources, DEFAULT_RESOURCES),
        "volumeMounts": [*mounts(read_only=True), _SHARED],
        "restartPolicy": "Always",
    }
    return container(CONTAINER, settings.jobs_image, settings, parts)
