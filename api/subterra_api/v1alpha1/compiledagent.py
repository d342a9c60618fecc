"""CompiledAgent: keeps a served agent in step with its procedure, promoting only what passed the gate."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import ApiModel, Condition, Digest, Labels, LocalReference, Money, StatusModel
from subterra_api.v1alpha1.compilerun import (
    BaseModelSource,
    EvaluationSettings,
    ExecutionSettings,
    GatePolicy,
    GenerationSettings,
    ResourceRequirements,
    TrainingSettings,
)
from subterra_api.v1alpha1.scores import Verdict


class RunTemplate(ApiModel):
    """Settings of every run of this agent."""

    base_model: BaseModelSource = BaseModelSource()
    """The model that is fine-tuned."""
    generation: GenerationSettings = GenerationSettings()
    """How the dataset is written."""
    training: TrainingSettings = TrainingSettings()
    """How the model is trained."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How the candidate is judged."""
    execution: ExecutionSettings = ExecutionSettings()
    """Where and with what the stages run. Changes here start no new run."""


class CompileSource(ApiModel):
    """Compile a procedure of this namespace."""

    procedure_ref: LocalReference
    """The Procedure that is compiled."""
    template: RunTemplate = RunTemplate()
    """Settings of every run of this agent."""
    trigger: Literal["OnChange", "Manual"] = "OnChange"
    """Whether a change of procedure or settings starts a run by itself, or waits until the annotation subterra.dev/retryAt
    is set to another time. Default: OnChange."""
    settle_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long procedure and settings must be left alone before a run begins, so that one commit makes one run."""
    suspend: bool = False
    """Stops the run at work and starts none. What serves goes on serving."""


class ModelSource(ApiModel):
    """Serve a model that was compiled elsewhere, checked by its digest."""

    uri: Annotated[str, StringConstraints(pattern=r"^(pvc://.+|s3://.+)$", max_length=500)]
    """Where the model is: `pvc://path` in the namespace's store, or `s3://bucket/path`."""
    digest: Digest
    """The digest of its manifest: status.serving.modelDigest of the agent that compiled it."""
    turns_per_conversation: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Mean number of agent turns, from the report of the run that made the model; without it the price is that of a reply."""


class PromotionSettings(ApiModel):
    """When traffic moves to a new version."""

    mode: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic: traffic moves to what passed the gate. Manual: traffic follows only the pin. Default: Automatic."""
    gate: GatePolicy = GatePolicy()
    """What a candidate must reach."""
    pin: Digest | None = None
    """Serve the model with this digest, whatever is newer."""
    anchor: Digest | None = None
    """A model of this agent that new ones are compared with beside what serves, so that many small losses do not add up."""
    history_limit: Annotated[int, Field(ge=1, le=50)] = 5
    """How many versions that served are remembered with their runs, and how many other old runs are kept. Default: 5."""
    keep_warm_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """How long the version before keeps its pods after traffic left it: a quick way back, and time for open connections.
    Default: 300."""
    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86400)] = 900
    """How long the pods of a new version may take to get ready before it is given up. Default: 900."""


class ServingSettings(ApiModel):
    """How the model is served with vLLM."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """How many pods serve; also what `kubectl scale` and autoscalers set. Leave it out of your files when one of these does.
    Default: 1."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """The Service's port. Default: 8000."""
    args: Annotated[tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=30)] = ()
    """More arguments for vLLM, from an allowlist."""
    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits of vLLM; what is not said comes from the operator's settings."""
    node_selector: Labels = {}
    """Labels that a node must have, as in a pod."""
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=20)] = ()
    """Taints that are put up with, as in a pod."""


class BudgetSettings(ApiModel):
    """Hard caps on what providers may be paid."""

    max_usd_per_run: Annotated[Money | None, Field(alias="maxUSDPerRun")] = None
    """What one run may pay at most, in US dollars, such as "25.00"."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """What all runs of this agent, deleted ones included, may pay at most within 30 days."""


class CostSettings(ApiModel):
    """What serving costs."""

    usd_per_hour: Annotated[Money, Field(alias="usdPerHour")] = "2.50"
    """Price of one replica's hardware per hour; the default is one A100 80 GB as in the paper."""


class CompiledAgentSpec(ApiModel):
    """Where the model comes from, when traffic moves to a new one, and how it is served. Needs one of compile and model."""

    compile: CompileSource | None = None
    """Compile a procedure of this namespace, and again whenever it changes."""
    model: ModelSource | None = None
    """Serve a model that was compiled elsewhere, checked by its digest."""
    promotion: PromotionSettings = PromotionSettings()
    """When traffic moves to a new version."""
    serving: ServingSettings = ServingSettings()
    """How the model is served with vLLM."""
    budget: BudgetSettings = BudgetSettings()
    """Hard caps on what providers may be paid."""
    cost: CostSettings = CostSettings()
    """What serving costs, for the price of a conversation."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.compile is None) == (self.model is None):
            raise ValueError("set exactly one of spec.compile (compile a procedure) and spec.model (serve a finished model)")
        return self


class AgentVersion(StatusModel):
    """One model behind one serving template."""

    version: str
    """Short digest of model and serving template."""
    model_digest: str
    """Digest of the model: what `promotion.pin` and `model.digest` take."""
    model_path: str
    """Where the model is in the store."""
    run: str | None = None
    """The CompileRun that made it."""
    since: str | None = None
    """When traffic moved to it."""


class Settling(StatusModel):
    """A run that begins when nothing is edited for a while."""

    run: str
    """The name that the run will have."""
    since: str
    """When it was last edited."""


class Candidate(StatusModel):
    """The version that wants to be served."""

    run: str | None = None
    """The CompileRun that made it."""
    version: str | None = None
    """Short digest of model and serving template."""
    model_digest: str | None = None
    """Digest of the model: set `promotion.pin` to it to serve it whatever the gate said."""
    verdict: Verdict | None = None
    """The gate's decision and why."""


class Price(StatusModel):
    """What a conversation costs, measured on the serving pods."""

    usd_per_conversation: Money | None = None
    """Busy time only."""
    usd_per_conversation_with_idle: Money | None = None
    """All hours paid for, idle ones too."""
    usd_per_hour: Money | None = None
    """Price of one replica's hardware per hour."""
    conversations: int | None = None
    """How many conversations that is measured on."""
    idle_percent: int | None = None
    """Share of the time in which nobody asked anything."""
    compile_usd: Annotated[Money | None, Field(alias="compileUSD")] = None
    """What the run that made it paid to providers."""


class CompiledAgentStatus(StatusModel):
    """What serves, what is on its way, and what it costs."""

    observed_generation: int = 0
    """The metadata.generation that this status is about; -1 before the operator has looked."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    """Ready: something serves. UpToDate: what serves is what the spec and the procedure say; else the message says why not.
    Reconciling: nothing serves yet, and work goes on. Stalled: nothing serves, and a person is needed."""
    phase: str | None = None
    """A summary of the conditions in a word, such as Serving, Recompiling, Rejected or Failed."""
    procedure_digest: str | None = None
    """Digest of the procedure that this status is about; see the Procedure's status.digest."""
    retry_at: str | None = None
    """The `subterra.dev/retryAt` annotation that was last obeyed."""
    current_run: str | None = None
    """The CompileRun of what is wanted now."""
    settling: Settling | None = None
    """A run that begins when nothing is edited for a while."""
    stage: str | None = None
    """What the current run is doing, for `kubectl get`."""
    serving: AgentVersion | None = None
    """The version that has traffic."""
    candidate: Candidate | None = None
    """What is wanted now, whether it serves already or not."""
    history: Annotated[tuple[AgentVersion, ...], Field(max_length=50)] = ()
    """Versions that served, the latest first."""
    endpoint: str | None = None
    """The URL within the cluster: an OpenAI-compatible API."""
    replicas: int | None = None
    """How many pods serve, for `kubectl scale` and autoscalers."""
    selector: str | None = None
    """The labels of these pods, for autoscalers."""
    price: Price | None = None
    """What a conversation costs, measured on the serving pods."""
    banner: str | None = None
    """What the scores are no evidence for."""
