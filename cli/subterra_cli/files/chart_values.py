"""Types of the chart's values: what `values.yaml` may hold. Its defaults and comments are in that file."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from subterra_api.v1alpha1.base import ApiModel, Labels, Money, Name
from subterra_api.v1alpha1.pod_settings import PoolName, Quantity, ResourceRequirements, Toleration
from subterra_core.node_pools import NodePool
from subterra_core.pricing import ModelPrice
from subterra_operator.settings import DefaultResources, Endpoint

Image = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s]+$")]
OptionalImage = Annotated[str, StringConstraints(pattern=r"^[^\s]*$")]
OptionalName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
OptionalURL = Annotated[str, StringConstraints(pattern=r"^(https?://.+)?$")]
OptionalUSD = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,9}(\.[0-9]{1,6})?)?$")]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class ImageValues(ApiModel):
    """Images."""

    operator: Image
    jobs: Image
    jobs_gpu: OptionalImage
    vllm: OptionalImage
    pull_policy: Literal["Always", "IfNotPresent", "Never"]
    pull_secrets: tuple[Name, ...]


class StoreValues(ApiModel):
    """The volume claim."""

    claim: Name
    size: Quantity
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"]
    storage_class: OptionalName


class DefaultValues(ApiModel):
    """What containers get that ask for nothing."""

    resources: DefaultResources


class AnthropicValues(ApiModel):
    """The Anthropic endpoint."""

    base_url: Annotated[OptionalURL, Field(alias="baseURL")]


class OpenAIValues(ApiModel):
    """Other endpoints with OpenAI's API."""

    endpoints: tuple[Endpoint, ...]


class HubValues(ApiModel):
    """The hub of base models."""

    endpoint: OptionalURL


class BudgetValues(ApiModel):
    """The administrator's caps."""

    max_usd_per_run: Annotated[OptionalUSD, Field(alias="maxUSDPerRun")]
    default_max_usd_per_run: Annotated[OptionalUSD, Field(alias="defaultMaxUSDPerRun")]
    allow_uncapped: bool
    max_usd_per_namespace_per_30_days: Annotated[OptionalUSD, Field(alias="maxUSDPerNamespacePer30Days")]
    max_usd_per_30_days_by_namespace: Annotated[dict[Name, Money], Field(alias="maxUSDPer30DaysByNamespace")]


class PodSecurityValues(ApiModel):
    """Users that pods run as."""

    fixed_user: bool


class NetworkPolicyValues(ApiModel):
    """NetworkPolicies."""

    enabled: bool
    prometheus_namespace: Name
    provider_cidrs: tuple[Cidr, ...]
    hub_cidrs: tuple[Cidr, ...]
    registry_cidrs: tuple[Cidr, ...]
    ports: tuple[Port, ...]
    dns_ports: Annotated[tuple[Port, ...], Field(min_length=1)]
    api_server_ports: tuple[Port, ...]


class DashboardValues(ApiModel):
    """ConfigMaps with Grafana's dashboards."""

    enabled: bool
    labels: Labels
    annotations: dict[str, str]


class MonitoringValues(ApiModel):
    """Metrics, alerts and dashboards."""

    enabled: bool
    interval: Annotated[str, StringConstraints(pattern=r"^([0-9]+(ms|[smhdwy]))+$")]
    labels: Labels
    rules: bool
    runbooks: Annotated[str, StringConstraints(min_length=1)]
    dashboards: DashboardValues


class TracingValues(ApiModel):
    """Traces by OpenTelemetry."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^(https?://[^\s?#]+)?$")]
    namespace: OptionalName
    call_ratio: Annotated[float, Field(ge=0, le=1)]


class OperatorValues(ApiModel):
    """The operator's own pods."""

    replicas: Annotated[int, Field(ge=0, le=10)]
    workers: Annotated[int, Field(ge=1, le=64)]
    resources: ResourceRequirements
    priority_class_name: OptionalName
    node_selector: Labels
    tolerations: tuple[Toleration, ...]


class CrdValues(ApiModel):
    """The CustomResourceDefinitions."""

    install: bool


class ChartValues(ApiModel):
    """All values of the chart."""

    images: ImageValues
    watch_namespaces: tuple[Name, ...]
    aggregate_roles: bool
    store: StoreValues
    defaults: DefaultValues
    pools: dict[PoolName, NodePool]
    anthropic: AnthropicValues
    openai: OpenAIValues
    hub: HubValues
    prices: dict[str, ModelPrice]
    budgets: BudgetValues
    pod_security: PodSecurityValues
    network_policies: NetworkPolicyValues
    monitoring: MonitoringValues
    tracing: TracingValues
    operator: OperatorValues
    crds: CrdValues
    global_: Annotated[dict[str, Any], Field(alias="global"), WithJsonSchema({"type": "object"})] = {}
    """What Helm passes on from a chart that this one is a part of; not used."""
