"""The administrator's settings: images, store, default resources, allowed endpoints. Read from one YAML file."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import ApiModel, Money, Name
from subterra_api.v1alpha1.pod_settings import PoolName, ResourceRequirements
from subterra_core.node_pools import NodePool
from subterra_core.pricing import ModelPrice

Port = Annotated[int, Field(ge=1, le=65535)]


class StoreSettings(ApiModel):
    """The volume claim for datasets, models and reports, one in every namespace with an agent."""

    claim: Name = "subterra-store"
    size: str = "20Gi"
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteMany"
    storage_class: str | None = None


class DefaultResources(ApiModel):
    """Resources of containers for which none are requested; sized for the bundled model on two CPUs.

    Where cores are scarce, the requests decide who gets how much: the operator's own (`operator.resources` of the chart) leaves it
    its share next to a training on all cores. The CPU limits are for large nodes, where one stage would spread over all of them.
    """

    generate: ResourceRequirements = ResourceRequirements(
        requests={"cpu": "1", "memory": "2Gi"}, limits={"cpu": "4", "memory": "4Gi"}
    )
    train: ResourceRequirements = ResourceRequirements(
        requests={"cpu": "1", "memory": "3Gi"}, limits={"cpu": "8", "memory": "14Gi"}
    )
    evaluate: ResourceRequirements = ResourceRequirements(
        requests={"cpu": "250m", "memory": "1Gi"}, limits={"cpu": "2", "memory": "2Gi"}
    )
    vllm: ResourceRequirements = ResourceRequirements(
        requests={"cpu": "500m", "memory": "4Gi"}, limits={"cpu": "4", "memory": "6Gi"}
    )
    exporter: ResourceRequirements = ResourceRequirements(requests={"cpu": "10m", "memory": "64Mi"}, limits={"memory": "256Mi"})


class NetworkSettings(ApiModel):
    """Allowed traffic of job and serving pods."""

    enabled: bool = True
    operator_namespace: Name = "subterra-system"
    prometheus_namespace: Name = "monitoring"
    provider_cidrs: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Addresses of model providers, for generate and evaluate."""
    hub_cidrs: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Addresses of model hub and object storage, for train."""
    registry_cidrs: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Addresses of OCI registries with models, for exports and for agents that serve a model from one."""
    ports: tuple[Port, ...] = (443,)
    dns_ports: tuple[Port, ...] = (53,)
    """Ports that the pods of the cluster's DNS listen on themselves: policies apply behind its Service."""


class AnthropicSettings(ApiModel):
    """The Anthropic endpoint. Only administrators choose it, because it receives the API key."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] | None = Field(default=None, alias="baseURL")


class Endpoint(ApiModel):
    """A server with the chat completions API that may receive a run's API key."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] = Field(alias="baseURL")
    free: bool = False
    """Calls cost nothing, as with a self-hosted vLLM server, so they need neither key nor price."""
    namespace: Name | None = None
    """Namespace of its pods if it runs in this cluster: generate and evaluate may reach all ports there."""


class OpenAISettings(ApiModel):
    """Endpoints besides OpenAI's own that runs may use as the baseURL of a model."""

    endpoints: tuple[Endpoint, ...] = ()

    @property
    def namespaces(self) -> list[str]:
        """Namespaces of the endpoints in this cluster, sorted."""
        return sorted({endpoint.namespace for endpoint in self.endpoints if endpoint.namespace})


class BudgetSettings(ApiModel):
    """The administrator's caps on what a run may pay to model providers, in US dollars."""

    max_usd_per_run: Annotated[Money | None, Field(alias="maxUSDPerRun")] = None
    """The highest cap that a run may have; also the cap of a run without one, if there is no default."""
    default_max_usd_per_run: Annotated[Money | None, Field(alias="defaultMaxUSDPerRun")] = None
    """Cap of a run without one."""
    allow_uncapped: bool = True
    """Whether a run that calls paid models may have no cap of its own, nor its agent."""
    max_usd_per_namespace_per_30_days: Annotated[Money | None, Field(alias="maxUSDPerNamespacePer30Days")] = None
    """Cap on what all runs of a namespace together may pay within 30 days."""
    max_usd_per_30_days_by_namespace: Annotated[dict[Name, Money], Field(alias="maxUSDPer30DaysByNamespace")] = {}
    """Other caps for single namespaces."""

    def cap_of_namespace(self, namespace: str) -> str | None:
        """The cap on what all runs of a namespace may pay within 30 days, or `None`."""
        return self.max_usd_per_30_days_by_namespace.get(namespace, self.max_usd_per_namespace_per_30_days)

    @model_validator(mode="after")
    def _default_fits(self) -> "BudgetSettings":
        highest, default = self.max_usd_per_run, self.default_max_usd_per_run
        if highest is not None and default is not None and Decimal(default) > Decimal(highest):
            raise ValueError(f"defaultMaxUSDPerRun ({default}) must not be above maxUSDPerRun ({highest})")
        return self


class HubSettings(ApiModel):
    """The hub of base models. Only administrators choose it, because it receives the token."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] | None = None


class TracingSettings(ApiModel):
    """Where the stages send spans of their work and of their calls."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$")] | None = None
    """Base URL of a collector that takes OTLP over HTTP; `None`: no tracing."""
    namespace: Name | None = None
    """Namespace of its pods if it runs in this cluster: stages may reach all ports there."""
    call_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the provider calls that get a span; those that failed or were tried again all do."""


class LeaseSettings(ApiModel):
    """The Lease that decides which of several operators acts. Operators that watch the same namespaces must name the same one."""

    name: Name = "subterra-operator"
    namespace: Name | None = None
    """Default: the operator's own ``namespace``."""
    duration_seconds: Annotated[int, Field(ge=3)] = 15
    """How long after its last renewal others leave a holder's lease alone."""
    renew_seconds: Annotated[float, Field(gt=0)] = 10
    """How long after its last renewal a holder writes."""
    retry_seconds: Annotated[float, Field(gt=0)] = 2
    """Interval at which the holder renews and the others look."""

    @model_validator(mode="after")
    def _times_fit(self) -> "LeaseSettings":
        if not self.duration_seconds > self.renew_seconds > self.retry_seconds:
            raise ValueError("durationSeconds must be above renewSeconds, and renewSeconds above retrySeconds")
        return self


class Settings(ApiModel):
    """All settings; unknown keys are rejected, so that a typo is not silently ignored."""

    jobs_image: str = "localhost/subterra/jobs:dev"
    jobs_gpu_image: str | None = None
    """The jobs image for GPUs: what trains on them, and serves on them where there is no `serving_image`."""
    serving_image: str | None = None
    """Image with vLLM; default: the jobs image."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = ()
    store: StoreSettings = StoreSettings()
    resources: DefaultResources = DefaultResources()
    fixed_user: bool = True
    """Whether pods name their user and groups; otherwise the cluster chooses them, as OpenShift does."""
    network: NetworkSettings = NetworkSettings()
    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    hub: HubSettings = HubSettings()
    tracing: TracingSettings = TracingSettings()
    budgets: BudgetSettings = BudgetSettings()
    prices: dict[str, ModelPrice] = {}
    """Prices by model name; they take precedence over the built-in list prices."""
    pools: dict[PoolName, NodePool] = {}
    """Node pools that agents and runs may name."""
    watch_namespaces: tuple[Name, ...] = ()
    """Default: all namespaces."""
    namespace: Name = "default"
    """Namespace of the heartbeat; it must be watched."""
    lease: LeaseSettings = LeaseSettings()
    port: int = 8080
    """Port of health probes and metrics."""
    workers: Annotated[int, Field(ge=1, le=64)] = 4

    def stage_image(self, *, gpu: bool) -> str:
        """The image of a stage's main container."""
        return (gpu and self.jobs_gpu_image) or self.jobs_image

    def vllm_image(self, *, gpu: bool) -> str:
        """The image with vLLM."""
        return self.serving_image or self.stage_image(gpu=gpu)


def load_settings(path: Path | None) -> Settings:
    """Settings from a YAML file, or the defaults for `None`. Raises ValidationError."""
    if path is None:
        return Settings()
    return Settings.model_validate(yaml.safe_load(path.read_text()) or {})
