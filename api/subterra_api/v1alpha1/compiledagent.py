"""CompiledAgent: keeps a served agent up to date with its procedure, promoting only models that passed the gate."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import (
    ApiModel,
    Condition,
    Digest,
    Labels,
    LocalReference,
    Money,
    NamespaceName,
    SecretKeyReference,
    StatusModel,
)
from subterra_api.v1alpha1.compilerun import (
    BaseModelSource,
    EvaluationSettings,
    ExecutionSettings,
    GatePolicy,
    GenerationSettings,
)
from subterra_api.v1alpha1.gateway import Canary, CanarySettings, InferencePoolSettings
from subterra_api.v1alpha1.model_registry import Exported, ExportSettings, ModelSource
from subterra_api.v1alpha1.pod_settings import ConversationStateSettings, PoolName, Quantity, ResourceRequirements, Toleration
from subterra_api.v1alpha1.pod_template import PodTemplate
from subterra_api.v1alpha1.scores import Interval, Proportion, Verdict, VerdictResult
from subterra_api.v1alpha1.training_settings import TrainingSettings, require_pretrained


class RunTemplate(ApiModel):
    """Settings for every run of this agent."""

    base_model: BaseModelSource = BaseModelSource()
    """Model to fine-tune."""
    generation: GenerationSettings = GenerationSettings()
    """How the dataset is written."""
    training: TrainingSettings = TrainingSettings()
    """How the model is trained."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How the candidate is judged."""
    execution: ExecutionSettings = ExecutionSettings()
    """Resources and limits of the stages. Changes here start no new run."""

    @model_validator(mode="after")
    def _trains_what_it_can(self) -> Self:
        require_pretrained(self.training, self.base_model.uri)
        return self


class CompileSource(ApiModel):
    """Compile a procedure in this namespace."""

    procedure_ref: LocalReference
    """The Procedure to compile."""
    template: RunTemplate = RunTemplate()
    """Settings for every run of this agent."""
    trigger: Literal["OnChange", "Manual"] = "OnChange"
    """OnChange: a change of procedure or settings starts a run. Manual: it waits until the annotation subterra.dev/retry-at
    is set to a new time. Default: OnChange."""
    settle_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds without further edits of procedure or settings before a run starts, so that one commit makes one run. Default: 0."""
    suspend: bool = False
    """Suspends the current run and starts no new one. The serving version keeps serving. Default: false."""


class PromotionSettings(ApiModel):
    """When traffic is switched to a new version."""

    mode: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic: traffic moves to each version that passes the gate. Manual: traffic follows only the pin. Default: Automatic."""
    gate: GatePolicy = GatePolicy()
    """Thresholds that a candidate must reach."""
    pin: Digest | None = None
    """Serve the model with this digest, even if there are newer ones."""
    anchor: Digest | None = None
    """Digest of a model of this agent that candidates are compared with in addition to the serving version, so that small
    regressions cannot accumulate. It is served for every evaluation. Default: the first model that the agent served, of which
    only conversations in the store are compared."""
    rollout: Literal["BlueGreen", "Recreate"] = "BlueGreen"
    """BlueGreen: the new version starts next to the old one, and nothing is interrupted. Recreate, for pools without a spare GPU:
    the old version stops first, and starts again if the new one does not become ready. Default: BlueGreen."""
    canary: CanarySettings | None = None
    """Move the traffic that comes through a gateway in steps; not with `rollout: Recreate`, since it needs both versions at once.
    Default: traffic moves at once and as a whole."""
    history_limit: Annotated[int, Field(ge=1, le=50)] = 5
    """Number of former serving versions to keep with their runs, and of other old runs to keep. Default: 5."""
    keep_warm_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """Seconds for which the previous version keeps its pods after a switch, for a quick rollback. Default: 300."""
    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86400)] = 900
    """Seconds within which the pods of a new version must become ready before the rollout counts as failed. Default: 900."""
    export: ExportSettings | None = None
    """Push each model that gets traffic to an OCI registry, from where production can serve it. Default: none is pushed."""


class ServingSettings(ApiModel):
    """How the model is served with vLLM."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of serving pods. Leave it out of your manifests if `kubectl scale` or an autoscaler sets it. Default: 1."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port of the Service. Default: 8000."""
    args: Annotated[tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=30)] = ()
    """Extra arguments for vLLM; only those on an allowlist are accepted."""
    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits of vLLM; the operator's settings supply what is unset."""
    node_selector: Labels = {}
    """Labels that a node must have, as in a PodSpec."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=20)] = ()
    """Tolerations of the pods, as in a PodSpec."""
    pool: PoolName | None = None
    """Node pool from the operator's settings (`pools` of the chart): its labels and tolerations are added to the pods' own, and
    its price is the default of `cost.usdPerHour`."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, through which GPUs of one pod may exchange data. Default: 1Gi."""
    pod_template: PodTemplate = PodTemplate()
    """Further settings of the pods: labels, ServiceAccount, priority, affinity, variables."""
    api_key_secret: SecretKeyReference | None = None
    """Secret with the API key that clients must send (`Authorization: Bearer …`). Default: none is asked for."""
    allowed_namespaces: Annotated[tuple[NamespaceName, ...], Field(min_length=1, max_length=100)] | None = None
    """Namespaces whose pods may call the agent; name its own too if it should. Those of operator and Prometheus always may. Needs a
    network plugin that enforces NetworkPolicies. Default: all namespaces."""
    conversation_state: ConversationStateSettings | None = None
    """Answer `POST /v1/conversation/state` with the node and outcome that a conversation has reached; `{}` is enough. Setting,
    changing or removing it starts the same model again in new pods. Default: the route does not exist."""
    inference_pool: InferencePoolSettings | None = None
    """Keep an InferencePool with the pods of the version that has the traffic, for gateways with an endpoint picker; not with
    `promotion.canary`. Default: there is none."""
    restart_at: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7E]+$", max_length=64)] | None = None
    """Change it to start the same model again in new pods, such as with the images of a new operator version: the current time, or
    any other word. The new pods are rolled out like a new version, so what serves goes on until they are ready."""


class BudgetSettings(ApiModel):
    """Hard caps on provider spending."""

    max_usd_per_run: Annotated[Money | None, Field(alias="maxUSDPerRun")] = None
    """Maximum provider spending per run in US dollars, such as "25.00"."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """Maximum provider spending of all runs of this agent, including deleted ones, within 30 days."""


class CostSettings(ApiModel):
    """Cost of serving."""

    usd_per_hour: Annotated[Money, Field(alias="usdPerHour")] = "2.50"
    """Price of one replica's hardware per hour in US dollars. Default: that of `serving.pool`, without one 2.50, for one A100 80 GB
    as in the paper."""
    comparator: Annotated[str, StringConstraints(max_length=200)] = "claude-sonnet-5-5"
    """Hosted model that metrics compare the price of a conversation with; one with a list price (`subterra models`) or a price in
    the operator's settings. Default: claude-sonnet-5-5."""


class MonitoringSettings(ApiModel):
    """A sample of served conversations, labelled in the pod and compared with the version's own evaluation.

    Changes start the same model again in new pods.
    """

    sample: Literal["OptIn", "All"] = "OptIn"
    """OptIn: requests with the header `X-Subterra-Record: yes`. All: all but those with `X-Subterra-Record: no`. Default: OptIn."""
    max_requests_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 600
    """Most requests per hour and pod, evenly spread; what is beyond is served and not recorded. Default: 600."""
    keep: Literal["None", "Redacted", "Full"] = "Redacted"
    """What is kept in the pod once a request has been counted. None: nothing. Redacted: its steps in the procedure, and not a word
    that was said. Full: its words too. Default: Redacted."""
    keep_days: Annotated[int, Field(ge=1, le=90)] = 7
    """Days for which it is kept, at most as long as the pod lives. Default: 7."""
    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits of the monitor. Default: 100m CPU and 1Gi, at most 1 CPU and 1536Mi."""


class CompiledAgentSpec(ApiModel):
    """Source of the model, promotion and serving. Set exactly one of compile and model."""

    compile: CompileSource | None = None
    """Compile a procedure in this namespace, and recompile it whenever it changes."""
    model: ModelSource | None = None
    """Serve a model that was compiled elsewhere, verified by its digest."""
    promotion: PromotionSettings = PromotionSettings()
    """When traffic is switched to a new version."""
    serving: ServingSettings = ServingSettings()
    """How the model is served with vLLM."""
    budget: BudgetSettings = BudgetSettings()
    """Hard caps on provider spending."""
    cost: CostSettings = CostSettings()
    """Cost of serving, from which the price per conversation is computed."""
    monitoring: MonitoringSettings | None = None
    """Watch a sample of the served conversations. Default: none is recorded."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.compile is None) == (self.model is None):
            raise ValueError("set exactly one of spec.compile (compile a procedure) and spec.model (serve a finished model)")
        return self


class Reevaluation(StatusModel):
    """Another evaluation of a version, with other scenarios than the one that promoted it."""

    at: str
    """The time that was asked for."""
    run: str
    """The CompileRun that evaluated it."""
    verdict: VerdictResult
    """Pass, Fail or Inconclusive, by the floors alone."""
    check: str | None = None
    """The first check that decided."""
    scenarios: int
    """Number of simulated conversations."""
    conformance: Interval
    """Share of conversations that follow the procedure to its end."""
    failure_rate: Interval
    """Share of conversations with a Task Success of 3 or less."""
    usd: Money | None = None
    """Provider spending in US dollars."""
    report: str | None = None
    """Path of the report in the store."""


class ReevaluationRequest(StatusModel):
    """The latest re-evaluation that was begun."""

    at: str
    """The time that was asked for; only a later one begins another."""
    run: str
    """The CompileRun that evaluates."""
    version: str
    """The version that is evaluated."""
    reevaluates: str
    """The CompileRun that made it."""
    ended_at: str | None = None
    """Time of the verdict; absent before."""


class AgentVersion(StatusModel):
    """A model combined with a serving template."""

    version: str
    """Short digest of the model and serving template."""
    model_digest: str
    """Digest of the model, for `promotion.pin` and `model.digest`."""
    model_path: str
    """Path of the model in the store."""
    run: str | None = None
    """The CompileRun that made it."""
    since: str | None = None
    """Time at which traffic moved to it."""
    restart_at: str | None = None
    """Value of `serving.restartAt` when its pods were made."""
    reevaluations: Annotated[tuple[Reevaluation, ...], Field(max_length=5)] | None = None
    """Later evaluations of the same version, latest first; only in `status.history`."""


class Settling(StatusModel):
    """A run that starts once edits have settled."""

    run: str
    """Name that the run will have."""
    since: str
    """Time of the last edit."""


class Candidate(StatusModel):
    """The version being considered for promotion."""

    run: str | None = None
    """The CompileRun that made it."""
    version: str | None = None
    """Short digest of the model and serving template."""
    model_digest: str | None = None
    """Digest of the model: set `promotion.pin` to it to serve the model regardless of the verdict."""
    verdict: Verdict | None = None
    """The gate's decision and its reasons."""


class Downtime(StatusModel):
    """An interruption by `promotion.rollout: Recreate`."""

    version: str | None = None
    """The version for which the serving one was stopped."""
    since: str
    """Time at which it was stopped."""
    until: str | None = None
    """Time at which a version was ready with traffic again."""
    seconds: int | None = None
    """Seconds in between."""
    rolled_back: bool | None = None
    """Whether the version that was stopped serves again, because the other one did not become ready or is no longer wanted."""


class Price(StatusModel):
    """Cost of a conversation, measured on the serving pods."""

    usd_per_conversation: Money | None = None
    """Counting busy time only."""
    usd_per_conversation_with_idle: Money | None = None
    """Counting all hours, including idle time."""
    usd_per_hour: Money | None = None
    """Price of one replica's hardware per hour in US dollars."""
    conversations: int | None = None
    """Number of conversations in the measurement."""
    idle_percent: int | None = None
    """Percentage of the time without requests."""
    compile_usd: Annotated[Money | None, Field(alias="compileUSD")] = None
    """Provider spending of the run that made the model, in US dollars."""
    measured_at: str | None = None
    """Time of the measurement. Later ones are written at most once an hour; the metrics have the current price."""


class MonitoredHub(StatusModel):
    """The hub whose customers' words are most often like no example."""

    hub: str
    """The node that decides."""
    turns: int
    """Turns in which customers decided there."""
    unrecognized: int
    """Those whose words are like no example of a way on."""


class Monitored(StatusModel):
    """Served conversations in the sample, of this week and the last, by the running pods of the serving version."""

    conversations: int
    """Conversations that came to the right end, or had a wrong reply."""
    conformance: Proportion
    """Those that came to the right end without a wrong reply."""
    fabrication: Proportion
    """Values that neither the customer nor the context had given, of all values that the agent asserted."""
    worst_hub: MonitoredHub | None = None
    """The hub whose customers' words are most often like no example; absent if all were recognized."""
    evaluated: Proportion | None = None
    """Conformance of the version's own evaluation, read by the same labeller; absent if its report is not in the store."""
    problem: str | None = None
    """Why nothing is counted, or nothing compared."""
    measured_at: str | None = None
    """Time of the measurement. Later ones are written at most once an hour; the metrics have the current counts."""


class CompiledAgentStatus(StatusModel):
    """Serving version, candidate and cost."""

    observed_generation: int = 0
    """The metadata.generation that this status describes; -1 before the operator has seen the object."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=9)] = ()
    """Ready: a version is serving. UpToDate: it matches the spec and the procedure; if not, the message says why.
    Reconciling: nothing is serving yet, and work is in progress. Stalled: nothing is serving, and a person must act.
    Drifting, only while True: served conversations are worse than evaluated.
    Reevaluated, once `subterra.dev/reevaluate-at` is set: True with the result for the serving version, Unknown until then, False
    if it cannot be evaluated. Exported, with promotion.export: the serving model is in the registry.
    InferencePoolReady, with serving.inferencePool: it has the pods of the serving version, and no gateway rejects it."""
    phase: str | None = None
    """One-word summary of the conditions, such as Serving, Recompiling, Rejected or Failed."""
    reason: str | None = None
    """Reason of `Ready` if nothing answers although the agent is up to date, else of `UpToDate`, for `kubectl get`."""
    procedure_digest: str | None = None
    """Digest of the procedure that this status describes; see the Procedure's status.digest."""
    retry_at: str | None = None
    """Value of the `subterra.dev/retry-at` annotation that was last acted on."""
    current_run: str | None = None
    """The CompileRun for the desired state."""
    settling: Settling | None = None
    """A run that starts once edits have settled."""
    stage: str | None = None
    """Current activity of the run, for `kubectl get`."""
    serving: AgentVersion | None = None
    """The version that receives traffic."""
    downtime: Downtime | None = None
    """The latest interruption by `promotion.rollout: Recreate`."""
    canary: Canary | None = None
    """The new version's share of the traffic, while it has one besides the serving version."""
    candidate: Candidate | None = None
    """The desired version, whether it is serving already or not."""
    history: Annotated[tuple[AgentVersion, ...], Field(max_length=50)] = ()
    """Former serving versions, latest first."""
    anchor: str | None = None
    """Digest of the first model that the agent served: the anchor unless `promotion.anchor` names another."""
    endpoint: str | None = None
    """URL within the cluster of the OpenAI-compatible API."""
    replicas: int | None = None
    """Number of serving pods, for `kubectl scale` and autoscalers."""
    selector: str | None = None
    """Label selector of these pods, for autoscalers."""
    price: Price | None = None
    """Cost of a conversation, measured on the serving pods."""
    banner: str | None = None
    """Disclaimer: what the scores cannot be evidence for."""
    monitored: Monitored | None = None
    """What `spec.monitoring` has found."""
    reevaluation: ReevaluationRequest | None = None
    """The latest re-evaluation of what serves, in progress or ended; results are in `history`."""
    exported: Exported | None = None
    """The latest model that `spec.promotion.export` has pushed."""
