"""Settings that end up in a pod, and what Kubernetes demands of them: checked early, because it would refuse only the pod's Job.

Only what no pod can have is refused, so that every object whose pods could run stays valid.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema, model_validator

from subterra_api.v1alpha1.base import MAP, ApiModel

_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LABEL_VALUE = f"^({_NAME})?$"
TOLERATION_KEY = "key is missing: name the taint's key, or set operator to Exists to tolerate every taint"
TOLERATION_VALUE = "value must be left out when operator is Exists: remove it, or set operator to Equal"
TOLERATION_SECONDS = "tolerationSeconds needs effect NoExecute: set it, or remove tolerationSeconds"
QUEUE_NAME = "queueName must be the name of a LocalQueue: letters, digits, '-', '_' and '.', first and last a letter or digit"
RESOURCE_NAMES = ("cpu", "memory", "ephemeral-storage")
RESOURCE_NAME = (
    "unknown resource: use cpu, memory, ephemeral-storage, hugepages-SIZE or a name with a domain, such as nvidia.com/gpu"
)
REQUEST_ABOVE_LIMIT = "a request is larger than the limit of that resource: lower the request or raise the limit"

Quantity = (
    Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$", max_length=32)]
    | Annotated[int, Field(ge=0, le=10**12)]
)
"""A Kubernetes quantity: `500m`, `4Gi` or a plain `2`."""
Quantities = Annotated[dict[str, Quantity], Field(max_length=64), MAP]
_UNITS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def amount(quantity: str | int) -> Decimal:
    """A quantity as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    return Decimal(number) * _UNITS[unit]


class ResourceRequirements(ApiModel):
    """Requests and limits of a pod's main container."""

    requests: Quantities = {}
    """Resources that the scheduler reserves, such as `cpu: 2` or `nvidia.com/gpu: 1`."""
    limits: Quantities = {}
    """Maximum resources that the container may use."""

    @model_validator(mode="after")
    def _fit_a_container(self) -> Self:
        if unknown := [name for name in (*self.requests, *self.limits) if not _is_resource(name)]:
            raise ValueError(f"{unknown[0]}: {RESOURCE_NAME}")
        for name, request in self.requests.items():
            if name in self.limits and amount(request) > amount(self.limits[name]):
                raise ValueError(f"{name}: {REQUEST_ABOVE_LIMIT}")
        return self


def _is_resource(name: str) -> bool:
    return name in RESOURCE_NAMES or name.startswith("hugepages-") or "/" in name


class TolerationFields(ApiModel):
    """A toleration, as in a PodSpec."""

    model_config = ConfigDict(extra="allow", title="Toleration")

    key: Annotated[str, StringConstraints(pattern=f"^(({_DOMAIN}/)?{_NAME})?$", max_length=317)] | None = None
    """Key of the taints that are tolerated. Default: every key, which needs operator Exists."""
    operator: Literal["", "Equal", "Exists", "Lt", "Gt"] | None = None
    """How the taint's value is compared. Default: Equal."""
    value: Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)] | None = None
    """Value of the taints that are tolerated."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taints that are tolerated. Default: every effect."""
    toleration_seconds: Annotated[int, Field(ge=-(10**15), le=10**15)] | None = None
    """With effect NoExecute, how long the pod stays on the node. Default: forever."""

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError(TOLERATION_KEY)
        if self.operator == "Exists" and self.value:
            raise ValueError(TOLERATION_VALUE)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(TOLERATION_SECONDS)
        return self


def _checked(toleration: dict[str, Any]) -> dict[str, Any]:
    try:
        TolerationFields.model_validate(toleration)
    except ValidationError as error:
        raise ValueError("; ".join(_lines(error))) from error
    return toleration


def _lines(error: ValidationError) -> Iterator[str]:
    for detail in error.errors():
        where = ".".join(str(part) for part in detail["loc"])
        yield f"{where}: {detail['msg']}" if where else detail["msg"].removeprefix("Value error, ")


def _queue(name: str) -> str:
    if not re.fullmatch(LABEL_VALUE[1:-1], name):
        raise ValueError(QUEUE_NAME)
    return name


Toleration = Annotated[dict[str, Any], AfterValidator(_checked), WithJsonSchema(TolerationFields.model_json_schema(by_alias=True))]
"""Kept as it was written: it is hashed and passed on to the pod."""
QueueName = Annotated[str, StringConstraints(max_length=63), AfterValidator(_queue)]
PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""Name of a node pool in the chart's values."""

_NAMED = " || ".join([f"name in {list(RESOURCE_NAMES)}", "name.startsWith('hugepages-')", "name.contains('/')"])
_QUEUE_RULE = (f"!has(self.queueName) || self.queueName.matches('{LABEL_VALUE}')", QUEUE_NAME)
RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Toleration": (
        ("(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')", TOLERATION_KEY),
        ("!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''", TOLERATION_VALUE),
        ("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", TOLERATION_SECONDS),
    ),
    "ResourceRequirements": (
        (f"!has(self.requests) || self.requests.all(name, {_NAMED})", RESOURCE_NAME),
        (f"!has(self.limits) || self.limits.all(name, {_NAMED})", RESOURCE_NAME),
        (
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            REQUEST_ABOVE_LIMIT,
        ),
    ),
    **dict.fromkeys(("ExecutionSettings", "GenerationPod", "TrainingPod", "EvaluationPod"), (_QUEUE_RULE,)),
}
"""The same demands for the API server, by model: rule and message."""


class ConversationStateSettings(ApiModel):
    """A reader of conversation states next to vLLM."""

    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits of the reader. Default: 100m CPU and 1Gi, at most 1 CPU and 1536Mi."""
