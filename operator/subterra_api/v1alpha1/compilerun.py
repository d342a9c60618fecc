"""CompileRun: one compilation of one procedure, from synthetic conversations to a judged model."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Condition, Digest, LocalReference, Money, SecretKeyReference, StatusModel

StageName = Literal["generate", "train", "evaluate", "gate"]
StageState = Literal["Pending", "Running", "Succeeded", "Failed"]
VerdictResult = Literal["Pass", "Fail", "Inconclusive"]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=1, le=5)]
Quantity = str | int
"""A Kubernetes quantity: `500m`, `4Gi` or a plain `2`."""


class Provider(ApiModel):
    """Who writes, plays or judges."""

    name: Literal["scripted", "anthropic"] = "scripted"
    """`scripted` is deterministic, from the procedure's own examples: no key, no network, no cost."""
    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    """The provider's model name; needed for every provider but `scripted`."""


class Player(ApiModel):
    """Who plays the customers, or judges. Refused here rather than after generation and training were paid."""

    name: Literal["scripted"] = "scripted"
    """`scripted` plays the procedure's own wordings and judges by rules."""


class GenerationSettings(ApiModel):
    """How the dataset is written."""

    teacher: Provider = Provider()
    conversations: Annotated[int, Field(ge=20, le=100000)] | None = None
    """How many to write for each seed, held-out ones included."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=16)] | None = None
    held_out_percent: Annotated[int, Field(ge=1, le=50)] | None = None


class BaseModelSource(ApiModel):
    """The model that is fine-tuned."""

    uri: Annotated[str, StringConstraints(pattern=r"^(scratch|hf://.+|pvc://.+|s3://.+)$", max_length=500)] = "scratch"
    """`scratch` makes a tiny model on the spot (CPU, no hub); else `hf://org/name`, `pvc://path` or `s3://bucket/path`."""


class TrainingSettings(ApiModel):
    """Full-parameter supervised fine-tuning. Unset fields take the defaults of the base model's kind."""

    optimizer: Literal["adamw", "muon"] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    epochs: Annotated[int, Field(ge=1, le=100)] | None = None
    max_steps: Annotated[int, Field(ge=1, le=1000000)] | None = None
    """Stops after so many steps, whatever `epochs` says."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Conversations per optimizer step, over all ranks."""
    max_length: Annotated[int, Field(ge=128, le=131072)] | None = None
    """Tokens per conversation."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None


class EvaluationSettings(ApiModel):
    """How the candidate is judged."""

    simulator: Player = Player()
    judge: Player = Player()
    scenarios: Annotated[int, Field(ge=10, le=5000)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None


class CompileInputs(ApiModel):
    """Everything that determines the result. Immutable."""

    procedure_ref: LocalReference
    procedure_digest: Digest | None = None
    """When set, the run refuses to start from a procedure that has another digest."""
    base_model: BaseModelSource = BaseModelSource()
    generation: GenerationSettings = GenerationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


class ResourceRequirements(ApiModel):
    """Requests and limits of a pod's main container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class StagePod(ApiModel):
    """Where and with what a stage runs."""

    resources: ResourceRequirements = ResourceRequirements()
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=20)] = ()
    active_deadline_seconds: Annotated[int, Field(ge=60, le=1209600)] | None = None
    ranks: Annotated[int, Field(ge=1, le=64)] | None = None
    """Processes of the training job: one per GPU; on CPU one per core given to it."""


class GatePolicy(ApiModel):
    """Floors that a candidate must clear with confidence: the 95 % lower bound decides, not the mean."""

    min_scenarios: Annotated[int, Field(ge=1)] = 50
    """Fewer played scenarios are Inconclusive."""
    min_score: Score = 3.5
    """Each criterion's mean score."""
    max_failure_rate: Share = 0.2
    """Share of conversations with Task Success of 3 or less."""
    min_conformance: Share = 0.8
    """Share of conversations that follow the procedure to a terminal."""


class ExecutionSettings(ApiModel):
    """How the run is carried out. May change while it runs."""

    suspend: bool = False
    max_usd: Annotated[Money | None, Field(alias="maxUSD")] = None
    """Hard cap on what the run may pay to providers."""
    queue_name: Annotated[str, StringConstraints(max_length=63)] | None = None
    """A Kueue LocalQueue."""
    api_key_secret: SecretKeyReference | None = None
    """The provider's key; needed for every provider but `scripted`."""
    generate: StagePod = StagePod()
    train: StagePod = StagePod()
    evaluate: StagePod = StagePod()
    gate: GatePolicy = GatePolicy()


class CompileRunSpec(ApiModel):
    inputs: CompileInputs
    execution: ExecutionSettings = ExecutionSettings()


class StageStatus(StatusModel):
    """How far one stage is."""

    name: StageName
    state: StageState = "Pending"
    attempt: int = 0
    retries: int = 0
    """How often it was tried again by itself since somebody asked for it."""
    job_name: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    percent: int = 0
    eta_seconds: int | None = None
    usd: Annotated[Money | None, Field(alias="usd")] = None
    tokens: int | None = None
    reason: str | None = None
    message: str | None = None


class Interval(StatusModel):
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Scores(StatusModel):
    """What the evaluation measured, as far as the gate needs it."""

    scenarios: int
    criteria: dict[str, Interval]
    """taskSuccess, informationAccuracy, consistency, gracefulHandling, naturalness; 1 to 5."""
    failure_rate: Interval
    conformance: Interval
    turns_per_conversation: float
    """Mean number of agent turns."""
    slots_exact: float | None = None
    """Share of the customer's values that the agent repeated exactly."""


class Verdict(StatusModel):
    """The gate's decision and why."""

    result: VerdictResult
    reasons: Annotated[tuple[str, ...], Field(max_length=20)] = ()


class Artifacts(StatusModel):
    """Digests of the manifests of what the run made."""

    dataset: str | None = None
    model: str | None = None
    report: str | None = None
    dataset_path: str | None = None
    model_path: str | None = None
    report_path: str | None = None


class CompileRunStatus(StatusModel):
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    phase: str | None = None
    progress: str | None = None
    """The stage at work and how far it is, for `kubectl get`."""
    procedure_digest: str | None = None
    retry_at: str | None = None
    """The `subterra.dev/retryAt` annotation that was last obeyed."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=8)] = ()
    artifacts: Artifacts = Artifacts()
    usd: Money | None = None
    scores: Scores | None = None
    verdict: Verdict | None = None
    banner: str | None = None
    """What the scores are no evidence for."""
