"""CompiledAgent: keeps a served agent in step with its procedure, promoting only what passed the gate."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Condition, Digest, LocalReference, Money, StatusModel
from subterra_api.v1alpha1.compilerun import (
    BaseModelSource,
    EvaluationSettings,
    ExecutionSettings,
    GatePolicy,
    GenerationSettings,
    ResourceRequirements,
    TrainingSettings,
    Verdict,
)


class RunTemplate(ApiModel):
    """Settings of every run of this agent."""

    base_model: BaseModelSource = BaseModelSource()
    generation: GenerationSettings = GenerationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    execution: ExecutionSettings = ExecutionSettings()


class CompileSource(ApiModel):
    """Compile a procedure of this namespace."""

    procedure_ref: LocalReference
    template: RunTemplate = RunTemplate()
    trigger: Literal["OnChange", "Manual"] = "OnChange"
    settle_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long procedure and settings must be left alone before a run begins, so that one commit makes one run."""
    suspend: bool = False


class ModelSource(ApiModel):
    """Serve a model that was compiled elsewhere, checked by its digest."""

    uri: Annotated[str, StringConstraints(pattern=r"^(pvc://.+|s3://.+)$", max_length=500)]
    digest: Digest
    turns_per_conversation: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Mean number of agent turns, from the report of the run that made the model; without it the price is that of a reply."""


class PromotionSettings(ApiModel):
    """When traffic moves to a new version."""

    mode: Literal["Automatic", "Manual"] = "Automatic"
    gate: GatePolicy = GatePolicy()
    pin: Digest | None = None
    """Serve the model with this digest, whatever is newer."""
    history_limit: Annotated[int, Field(ge=1, le=50)] = 5
    """How many versions that served are remembered with their runs, and how many other old runs are kept."""
    keep_warm_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """How long the version before keeps its pods after traffic left it: a quick way back, and time for open connections."""
    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86400)] = 900


class ServingSettings(ApiModel):
    """How the model is served with vLLM."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    args: Annotated[tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=30)] = ()
    """More arguments for vLLM, from an allowlist."""
    resources: ResourceRequirements = ResourceRequirements()
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=20)] = ()


class BudgetSettings(ApiModel):
    """Hard caps on what providers may be paid."""

    max_usd_per_run: Annotated[Money | None, Field(alias="maxUSDPerRun")] = None


class CostSettings(ApiModel):
    """What serving costs."""

    usd_per_hour: Annotated[Money, Field(alias="usdPerHour")] = "2.50"
    """Price of one replica's hardware per hour; the default is one A100 80 GB as in the paper."""


class CompiledAgentSpec(ApiModel):
    compile: CompileSource | None = None
    model: ModelSource | None = None
    promotion: PromotionSettings = PromotionSettings()
    serving: ServingSettings = ServingSettings()
    budget: BudgetSettings = BudgetSettings()
    cost: CostSettings = CostSettings()


class AgentVersion(StatusModel):
    """One model behind one serving template."""

    version: str
    """Short digest of model and serving template."""
    model_digest: str
    model_path: str
    run: str | None = None
    since: str | None = None


class Settling(StatusModel):
    """A run that begins when nothing is edited for a while."""

    run: str
    since: str


class Candidate(StatusModel):
    """The version that wants to be served."""

    run: str | None = None
    version: str | None = None
    model_digest: str | None = None
    verdict: Verdict | None = None


class Price(StatusModel):
    """What a conversation costs, measured on the serving pods."""

    usd_per_conversation: Money | None = None
    """Busy time only."""
    usd_per_conversation_with_idle: Money | None = None
    usd_per_hour: Money | None = None
    conversations: int | None = None
    idle_percent: int | None = None
    compile_usd: Annotated[Money | None, Field(alias="compileUSD")] = None


class CompiledAgentStatus(StatusModel):
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    phase: str | None = None
    procedure_digest: str | None = None
    retry_at: str | None = None
    current_run: str | None = None
    settling: Settling | None = None
    stage: str | None = None
    """What the current run is doing, for `kubectl get`."""
    serving: AgentVersion | None = None
    candidate: Candidate | None = None
    history: Annotated[tuple[AgentVersion, ...], Field(max_length=50)] = ()
    endpoint: str | None = None
    replicas: int | None = None
    selector: str | None = None
    price: Price | None = None
    banner: str | None = None
