"""Why a container does not start, or starts again and again."""

from collections.abc import Iterator
from datetime import datetime

from subterra_api.job_contract.messages import ExitCode
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import seconds_since
from subterra_operator.decide.trouble.trouble import Place, Trouble, last_words, one_line
from subterra_operator.resources import key_of
from subterra_operator.snapshot import Observed
from subterra_operator.specs.registry_pods import PULL
from subterra_operator.specs.traffic.api_key import CONTAINER as KEY_CHECK
from subterra_operator.specs.traffic.state_pods import CONTAINER as STATE_READER

_SIDECARS = {"exporter": "", "monitor": "spec.monitoring", STATE_READER: "spec.serving.conversationState"}
"""Init containers of ours that run along with vLLM, and where their resources are set, if not with those of vLLM."""
_STARTING = ("PodInitializing", "ContainerCreating", "CrashLoopBackOff")
"""Reasons to wait that are no fault of their own; a crash is read from the state before."""
_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_OFTEN = 3
"""So many restarts count even if the container happens to run at the moment …"""
_RECENT_SECONDS = 600.0
"""… unless the last one was longer ago than this, after which the kubelet forgets them too."""
_KILLED = (137, 143)
"""Exit codes of a container that the kubelet killed, for instance because its startup probe failed."""


_REMAKE = "or delete its folder from the store and its CompileRun, which is then made again"
_NOT_THE_MODEL = f"correct spec.model.uri or spec.model.digest; of a compiled model, restore its manifest.json, {_REMAKE}"
_RESTORE = f"restore it in the namespace's store (or correct spec.model.uri), and the pod starts by itself; {_REMAKE}"
"""Fixes for a model that is not as its digest says."""


def container_states(pod: Observed) -> Iterator[tuple[Observed, bool]]:
    """Status of each container, and whether it is an init container that runs once, not a sidecar."""
    status = pod.get("status", {})
    for item in status.get("initContainerStatuses", []):
        yield item, not is_sidecar(item["name"])
    for item in status.get("containerStatuses", []):
        yield item, False


def is_sidecar(name: str) -> bool:
    """Whether an init container of our pods runs along with the main container."""
    return name in _SIDECARS or name.startswith("vllm")


def waiting_trouble(status: Observed, since: str | None, place: Place) -> Trouble | None:
    """The trouble of a container that the kubelet cannot start, or `None`."""
    waiting = status.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", "PodInitializing"), waiting.get("message", "")
    if reason in _STARTING:
        return None
    if reason in _IMAGE:
        return _image_trouble(status, reason, message, since, place)
    cause = f"container {status['name']}: {reason}: {one_line(message)}".rstrip(": ")
    if reason == "CreateContainerConfigError" and "secret" in message.lower():
        fix = "create that Secret with that key in this namespace; the pod then starts by itself"
        return Trouble(Reason.MISSING_SECRET, cause, fix, since)
    fix = f"remove what the message names; the kubelet tries again by itself. After a change of image or settings, {place.remake}"
    return Trouble(Reason.CONTAINER_CONFIG_ERROR, cause, fix, since)


def _image_trouble(status: Observed, reason: str, message: str, since: str | None, place: Place) -> Trouble:
    """The kubelet alternates between two reasons whose messages share only the registry's words: those are kept."""
    image = status.get("image") or "its image"
    _, _, words = message.rpartition("ErrImagePull: ") if "ErrImagePull: " in message else ("", "", message)
    if words.startswith("Back-off pulling image"):
        words = ""
    cause = f"container {status['name']}: image {image} cannot be pulled"
    if reason not in ("ErrImagePull", "ImagePullBackOff"):
        cause += f" ({reason})"
    cause += f": {one_line(words)}" if words else ""
    fix = f"make the image available; or correct images or images.pullSecrets of the chart, {place.remake}"
    if reason == "ErrImageNeverPull":
        fix = f"load the image onto the node; or set the chart's images.pullPolicy to IfNotPresent, {place.remake}"
    return Trouble(Reason.IMAGE_PULL_FAILED, cause, fix, since)


def restart_trouble(pod: Observed, status: Observed, runs_once: bool, place: Place, now: datetime) -> Trouble | None:
    """The trouble of a container that ended and is started again, or `None` if it did not or has recovered."""
    current = status.get("state", {}).get("terminated")
    ended = current or (status.get("lastState") or {}).get("terminated")
    count = status.get("restartCount", 0)
    if not ended:
        return None
    if runs_once:
        return _init_trouble(status["name"], ended, count, place) if _fails(status, ended) else None
    recent = count >= _OFTEN and seconds_since(ended.get("finishedAt"), now) < _RECENT_SECONDS
    if count == 0 or (_runs(status) and not recent):
        return None
    return _restarting(pod, status["name"], ended, count, place)


def _fails(status: Observed, ended: Observed) -> bool:
    """Whether an init container's latest end was a failure and it is not running again."""
    return ended["exitCode"] != 0 and not status.get("ready") and "running" not in status.get("state", {})


def _runs(status: Observed) -> bool:
    return bool(status.get("ready") or status.get("started")) and "running" in status.get("state", {})


def _init_trouble(name: str, ended: Observed, count: int, place: Place) -> Trouble:
    if ended.get("reason") == "OOMKilled":
        return _out_of_memory(name, count, place)
    said = last_words(ended.get("message"))
    cause = f"init container {name} failed with exit code {ended['exitCode']}" + (f": {said}" if said else "")
    fix = "the kubelet tries again by itself"
    if name == PULL and ended["exitCode"] == ExitCode.INVALID_INPUT:
        fix = "the kubelet tries again by itself, and after a change of spec.model other pods start"
    if name == "verify":
        fix = _NOT_THE_MODEL if ended["exitCode"] == ExitCode.INVALID_INPUT else _RESTORE
    elif name == KEY_CHECK:
        fix = "correct that key of the Secret, and the pod starts by itself"
    return Trouble(Reason.INIT_FAILED, cause, fix)


def _restarting(pod: Observed, name: str, ended: Observed, count: int, place: Place) -> Trouble:
    if ended.get("reason") == "OOMKilled":
        return _out_of_memory(name, count, place)
    said, code = last_words(ended.get("message")), ended["exitCode"]
    times = "once" if count == 1 else f"{count} times"
    cause = f"container {name} was restarted {times}; it last ended with exit code {code}" + (f": {said}" if said else "")
    fix = f"read kubectl logs {pod['metadata']['name']} --container={name} --previous"
    if code in _KILLED and name.startswith("vllm"):
        fix += f"; if the model needs longer to load than the startup probe allows, raise {place.field}.resources"
        fix += place.remake_after_edit
    sources = (key_of(pod),) if code in _KILLED else ()
    return Trouble(Reason.CONTAINER_RESTARTING, cause, fix, event_sources=sources)


def _out_of_memory(name: str, count: int, place: Place) -> Trouble:
    times = f" (restarted {count} times)" if count > 1 else ""
    fix = f"raise {_SIDECARS.get(name) or place.field}.resources.limits.memory{place.remake_after_edit}"
    return Trouble(Reason.OUT_OF_MEMORY, f"container {name} ran out of memory{times}", fix)
