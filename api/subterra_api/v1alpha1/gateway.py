"""Traffic through a gateway: the share that a new version gets before it gets all of it, and pools for endpoint pickers."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import ApiModel, Name, NamespaceName, StatusModel

Hostname = Annotated[
    str,
    StringConstraints(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253),
]


class GatewayReference(ApiModel):
    """A Gateway of the Gateway API."""

    name: Name
    """The Gateway's metadata.name."""
    namespace: NamespaceName | None = None
    """Its namespace; a listener there must allow routes from the agent's. Default: the agent's namespace."""
    section_name: Name | None = None
    """Name of the listener. Default: all listeners."""


class CanaryStep(ApiModel):
    """A share of the traffic for a while."""

    weight: Annotated[int, Field(ge=1, le=99)]
    """Percentage of the gateway's requests that the new version gets."""
    seconds: Annotated[int, Field(ge=0, le=604800)]
    """Least time in seconds until the next step, after the last one until all traffic moves."""


class CanarySettings(ApiModel):
    """A new version first gets a share of the requests that come through a gateway.

    The operator makes an HTTPRoute with the agent's name. A version that has served before gets all traffic at once.
    """

    gateway: GatewayReference
    """The Gateway that clients call."""
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    """Host names by which the gateway knows requests for this agent. Default: all requests of the listener are."""
    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=10)] = (
        CanaryStep(weight=10, seconds=600),
        CanaryStep(weight=50, seconds=600),
    )
    """Rising shares of the traffic. Default: 10 percent for ten minutes, then 50 percent for ten minutes."""
    min_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """Number of requests that the new version must have answered in a step before its error rate counts, and before the step can
    end. With 0, a step ends by its time alone. Default: 20."""
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Maximum share, in a step, of the new version's responses with a status of 500 or above; with more, all traffic goes back.
    Default: 0.01."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(before.weight >= after.weight for before, after in pairwise(self.steps)):
            raise ValueError("the weight of each step must be above that of the step before")
        return self


class EndpointPicker(ApiModel):
    """A Service in the agent's namespace that picks the pod for each request."""

    name: Name
    """The Service's metadata.name."""
    port: Annotated[int, Field(ge=1, le=65535)] = 9002
    """Its port. Default: 9002."""
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"
    """What the gateway does while the picker does not answer. FailOpen: it picks a pod itself. FailClose: it refuses requests.
    Default: FailClose."""


class InferencePoolSettings(ApiModel):
    """An InferencePool with the agent's name (inference.networking.k8s.io/v1), which HTTPRoutes of yours can name as backend."""

    endpoint_picker: EndpointPicker
    """The endpoint picker, which you install."""


class Canary(StatusModel):
    """A version that has a share of the traffic."""

    version: str
    """The new version."""
    step: int
    """Number of the step in `promotion.canary.steps`, from 1."""
    weight: int
    """Percentage of the gateway's requests that it gets."""
    since: str
    """Time at which the step began."""
    requests: int = 0
    """Requests that it has answered since."""
    errors: int = 0
    """Those with a status of 500 or above."""
    requests_before: int = 0
    """Requests that its pods had answered when the step began."""
    errors_before: int = 0
    """Those with a status of 500 or above."""
