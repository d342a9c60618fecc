"""Statuses of pods and Jobs as kubelet, scheduler and Job controller write them, for tests of what is made of them."""

from typing import Any

from subterra_operator.decide.trouble.trouble import Place
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import Warned
from subterra_testkit.cluster import kubernetes_objects as make

NAME = "travel-12345678-train-1-abcde"
JOB = Key("Job", make.NAMESPACE, "travel-12345678-train-1")
DEPLOYMENT = Key("Deployment", make.NAMESPACE, "travel-cafe1234")
STAGE = Place(JOB, "execution.train", "subterra-store")
SERVING = Place(DEPLOYMENT, "spec.serving", "subterra-store")
POD = Key("Pod", make.NAMESPACE, NAME)
CLAIM = Key("PersistentVolumeClaim", make.NAMESPACE, "subterra-store")
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": make.CREATED}


def pod(phase: str = "Pending", conditions: tuple[Object, ...] = (SCHEDULED,), **status: Any) -> Object:
    """A pod whose node has accepted it."""
    metadata = {"name": NAME, "namespace": make.NAMESPACE, "uid": "p", "creationTimestamp": make.CREATED, "labels": {}}
    known = {"phase": phase, "startTime": make.CREATED, "conditions": list(conditions), **status}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": known}


def unscheduled(message: str, reason: str = "Unschedulable") -> Object:
    """A pod for which the scheduler finds no node; no kubelet has seen it."""
    refused = {"type": "PodScheduled", "status": "False", "reason": reason, "lastTransitionTime": make.CREATED, "message": message}
    found = pod(conditions=(refused,))
    del found["status"]["startTime"]
    return found


def container(name: str, state: Object, restarts: int = 0, last: Object | None = None, **more: Any) -> Object:
    """The status of a container."""
    known = {"name": name, "image": f"registry.example/{name}:1", "ready": False, "restartCount": restarts, "state": state}
    return {**known, "lastState": {"terminated": last} if last else {}, **more}


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that waits."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def ended(code: int, message: str = "", reason: str = "Error", finished: str = make.CREATED) -> Object:
    """How a container ended."""
    return {"exitCode": code, "reason": reason, "message": message, "finishedAt": finished}


RUNNING: Object = {"running": {"startedAt": make.CREATED}}
INITIALIZING = waiting("PodInitializing")
CREATING = waiting("ContainerCreating")


def warned(key: Key, reason: str, message: str) -> dict[Key, tuple[Warned, ...]]:
    """One warning about an object."""
    return {key: (Warned(reason, message),)}
