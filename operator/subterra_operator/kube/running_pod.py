"""What polling a pod needs of it, kept unpacked: all running pods are gone through every few seconds."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, RAY_COMPONENT, RUN_LABEL, VERSION_LABEL, labels_of
from subterra_operator.resources import Key, is_deleting

PodName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A pod that runs and has an address."""

    namespace: str
    name: str
    address: str
    component: str = ""
    agent: str = ""
    run: str = ""
    version: str = ""

    @property
    def id(self) -> PodName:
        """Its namespace and name."""
        return self.namespace, self.name

    @property
    def owner(self) -> Key:
        """The run that it works for, or the agent that it serves."""
        return Key("CompileRun", self.namespace, self.run) if self.run else Key("CompiledAgent", self.namespace, self.agent)


def running_pod(pod: Mapping[str, Any]) -> RunningPod | None:
    """The pod if it can be polled, else `None`."""
    status, labels = pod.get("status") or {}, labels_of(pod)
    silent = labels.get(COMPONENT_LABEL) == RAY_COMPONENT
    if silent or status.get("phase") != "Running" or not status.get("podIP") or is_deleting(pod):
        return None
    marks = (sys.intern(labels.get(label, "")) for label in (COMPONENT_LABEL, AGENT_LABEL, RUN_LABEL, VERSION_LABEL))
    return RunningPod(pod["metadata"].get("namespace", ""), pod["metadata"]["name"], status["podIP"], *marks)
