"""Settings of a PodSpec that are passed on to the pods of stages and of served versions. None is part of a run's digest."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import ApiModel, Labels, Name

RESERVED_ENV = "names that begin with SUBTERRA_ are the operator's own: choose another name"
ONE_SOURCE = "set exactly one of value and valueFrom"
LabelMap = Annotated[Labels, Field(max_length=64)]
KeyName = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]


class KeyReference(ApiModel):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: Name
    """Its metadata.name."""
    key: KeyName
    """Key within it."""


class EnvSource(ApiModel):
    """Where the value of a variable comes from."""

    secret_key_ref: KeyReference | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""


class EnvVariable(ApiModel):
    """An environment variable."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    """Name of the variable."""
    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Its value."""
    value_from: EnvSource | None = None
    """Where its value comes from instead."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.name.startswith("SUBTERRA_"):
            raise ValueError(RESERVED_ENV)
        if (self.value is None) == (self.value_from is None):
            raise ValueError(ONE_SOURCE)
        return self


class Affinity(ApiModel):
    """Affinity of the pods, as in a PodSpec."""

    node_affinity: dict[str, Any] | None = None
    """Which nodes the pods may or should run on."""
    pod_affinity: dict[str, Any] | None = None
    """Which pods they should run with."""
    pod_anti_affinity: dict[str, Any] | None = None
    """Which pods they should run away from."""


class TopologySpread(ApiModel):
    """How the pods are spread over nodes or zones, as in a PodSpec."""

    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """By how many pods the places may differ."""
    topology_key: Annotated[str, StringConstraints(min_length=1, max_length=317)]
    """Label of nodes by which places are told apart, such as topology.kubernetes.io/zone."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What happens to a pod that cannot be spread so."""
    label_selector: dict[str, Any] | None = None
    """Which pods are counted."""
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Minimum number of places, with DoNotSchedule."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """Whether only nodes that fit the pod's affinity count."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """Whether only nodes whose taints the pod tolerates count."""
    match_label_keys: Annotated[tuple[KeyName, ...], Field(max_length=16)] = ()
    """Labels of the pod whose values are added to the selector."""


class PodTemplate(ApiModel):
    """What is added to the pods. The operator's own labels, variables and security settings win."""

    labels: LabelMap = {}
    """Labels of the pods, in addition to the operator's."""
    annotations: LabelMap = {}
    """Annotations of the pods."""
    service_account_name: Name | None = None
    """ServiceAccount of the pods, for image pull secrets or a workload identity. Its token is not mounted."""
    priority_class_name: Name | None = None
    """PriorityClass of the pods."""
    runtime_class_name: Name | None = None
    """RuntimeClass of the pods, such as nvidia."""
    scheduler_name: Name | None = None
    """Scheduler of the pods."""
    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Names of Secrets with which images are pulled, in addition to the chart's."""
    affinity: Affinity = Affinity()
    """Affinity of the pods, as in a PodSpec."""
    topology_spread_constraints: Annotated[tuple[TopologySpread, ...], Field(max_length=8)] = ()
    """How the pods are spread, as in a PodSpec."""
    env: Annotated[tuple[EnvVariable, ...], Field(max_length=64)] = ()
    """Variables of the container that does the work: `main` of a stage, `vllm` of a served version, and `pull` where its model
    comes from a registry. With a proxy, set NO_PROXY to 127.0.0.1 and localhost too."""


RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "EnvVariable": (
        ("!self.name.startsWith('SUBTERRA_')", RESERVED_ENV),
        ("has(self.value) != has(self.valueFrom)", ONE_SOURCE),
    ),
}
"""The same demands for the API server, by model: rule and message."""
