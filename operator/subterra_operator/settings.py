"""What the operator's administrator decides: images, store, default resources, allowed endpoints. Read from one YAML file."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Name
from subterra_api.v1alpha1.compilerun import ResourceRequirements
from subterra_core.pricing import ModelPrice


class StoreSettings(ApiModel):
    """The claim that holds datasets, models and reports, one in every namespace with an agent."""

    claim: Name = "subterra-store"
    size: str = "20Gi"
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteMany"
    storage_class: str | None = None


class DefaultResources(ApiModel):
    """Resources of containers whose resource says nothing; sized for the tiny model on CPU."""

    generate: ResourceRequirements = ResourceRequirements(requests={"cpu": "1", "memory": "2Gi"}, limits={"memory": "4Gi"})
    train: ResourceRequirements = ResourceRequirements(requests={"cpu": "1", "memory": "3Gi"}, limits={"memory": "6Gi"})
    evaluate: ResourceRequirements = ResourceRequirements(requests={"cpu": "250m", "memory": "1Gi"}, limits={"memory": "2Gi"})
    vllm: ResourceRequirements = ResourceRequirements(requests={"cpu": "500m", "memory": "3Gi"}, limits={"memory": "4Gi"})
    exporter: ResourceRequirements = ResourceRequirements(requests={"cpu": "10m", "memory": "64Mi"}, limits={"memory": "256Mi"})


class NetworkSettings(ApiModel):
    """Who may talk to job and serving pods, and where those may go."""

    enabled: bool = True
    operator_namespace: Name = "subterra-system"
    prometheus_namespace: Name = "monitoring"
    provider_cidrs: tuple[str, ...] = ("0.0.0.0/0",)
    """Where the providers' API is; generate and evaluate only."""
    hub_cidrs: tuple[str, ...] = ("0.0.0.0/0",)
    """Where the model hub and object storage are; train only."""
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)


class AnthropicSettings(ApiModel):
    """The provider's endpoint: an administrator's choice, because it receives the API key."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] | None = Field(default=None, alias="baseURL")


class Endpoint(ApiModel):
    """A server that speaks the chat completions API and may be given the key that a run names."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://.+$")] = Field(alias="baseURL")
    free: bool = False
    """Calls cost nothing, as with a vLLM server of one's own: then no key and no price is needed."""
    namespace: Name | None = None
    """Of its pods, when it runs in this cluster: generate and evaluate may reach all ports there."""


class OpenAISettings(ApiModel):
    """Endpoints other than OpenAI's own that runs may name as the baseURL of a model."""

    endpoints: tuple[Endpoint, ...] = ()

    @property
    def namespaces(self) -> list[str]:
        """Where endpoints of this cluster run."""
        return sorted({endpoint.namespace for endpoint in self.endpoints if endpoint.namespace})


class Settings(ApiModel):
    """All settings; unknown keys are refused, so that a typing slip is not silently ignored."""

    jobs_image: str = "localhost/subterra/jobs:dev"
    serving_image: str | None = None
    """vLLM; none means that the jobs' image has it."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = ()
    store: StoreSettings = StoreSettings()
    resources: DefaultResources = DefaultResources()
    network: NetworkSettings = NetworkSettings()
    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    prices: dict[str, ModelPrice] = {}
    """Of models by name; they come before the list prices that Subterra knows."""
    watch_namespaces: tuple[Name, ...] = ()
    """None means all."""
    namespace: Name = "default"
    """Where the heartbeat is written; it must be watched."""
    port: int = 8080
    """Health and metrics."""
    workers: Annotated[int, Field(ge=1, le=64)] = 4

    @property
    def vllm_image(self) -> str:
        """The image that has vLLM."""
        return self.serving_image or self.jobs_image


def load(path: Path | None) -> Settings:
    """Settings from a YAML file; the defaults when there is none. Raises ValidationError."""
    if path is None:
        return Settings()
    return Settings.model_validate(yaml.safe_load(path.read_text()) or {})
