"""The API key of an agent: what `serving.apiKeySecret` adds to its pods. Without the field a pod is as before.

vLLM demands the key, and so does a guard in front of it, since vLLM's own check leaves paths open that reply as well. Only kubelet
reads the Secret.
"""

from collections.abc import Sequence

from subterra_api.v1alpha1.base import SecretKeyReference
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, PodParts, container, env, resources, secret_env

KEY_VARIABLE = "VLLM_API_KEY"
CONTAINER = "api-key"
GUARD_MODULE = "subterra_key_guard"
PROGRAM = "subterra_jobs.evaluate.analysis.served.key_guard"


def guarded(parts: PodParts, secret: SecretKeyReference, folder: Object, settings: Settings) -> PodParts:
    """The pod with the key. ``folder`` mounts the volume with middleware of ours, which is added unless it is there already."""
    (vllm,) = parts.containers
    volume: Object = {"name": folder["name"], "emptyDir": {"sizeLimit": "1Mi"}}
    return PodParts(
        containers=[_demanding(vllm, secret, folder)],
        init_containers=[_key_check(secret, folder, settings), *parts.init_containers],
        volumes=[*parts.volumes, *([] if volume in parts.volumes else [volume])],
    )


def _key_check(secret: SecretKeyReference, folder: Object, settings: Settings) -> Object:
    """An init container that refuses a key which no client could send, and provides the guard's file.

    It is the first, so that a missing Secret is known before a large model has been verified.
    """
    parts = {
        "command": ["python", "-m", PROGRAM, folder["mountPath"], f"{secret.name} (key {secret.key})"],
        "env": [*env(HOME), secret_env(KEY_VARIABLE, secret)],
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [folder],
    }
    return container(CONTAINER, settings.jobs_image, settings, parts)


def _demanding(vllm: Object, secret: SecretKeyReference, folder: Object) -> Object:
    """vLLM's container with the key, and with the guard as its outermost middleware."""
    mounted: Object = {**folder, "readOnly": True}
    return {
        **vllm,
        "command": [*vllm["command"], "--middleware", f"{GUARD_MODULE}.Guard"],
        "workingDir": folder["mountPath"],
        "env": _sorted([*vllm["env"], secret_env(KEY_VARIABLE, secret)]),
        "volumeMounts": [*vllm["volumeMounts"], *([] if mounted in vllm["volumeMounts"] else [mounted])],
    }


def _sorted(variables: Sequence[Object]) -> list[Object]:
    return sorted(variables, key=lambda variable: str(variable["name"]))
