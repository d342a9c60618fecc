"""CompileRun: one compilation of one procedure, from synthetic conversations to a judged model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from subterra_api.v1alpha1.base import (
    MAP,
    ApiModel,
    Condition,
    Digest,
    Labels,
    LocalReference,
    Money,
    SecretKeyReference,
    Seed,
    StatusModel,
)
from subterra_api.v1alpha1.scores import Scores, Verdict

StageName = Literal["generate", "train", "evaluate", "gate"]
StageState = Literal["Pending", "Running", "Succeeded", "Failed"]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=1, le=5)]
Quantity = (
    Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$", max_length=32)]
    | Annotated[int, Field(ge=0, le=10**12)]
)
"""A Kubernetes quantity: `500m`, `4Gi` or a plain `2`."""
Quantities = Annotated[dict[str, Quantity], MAP]
Url = Annotated[str, StringConstraints(pattern=r"^https?://.+$", max_length=500)]


class Provider(ApiModel):
    """Who writes, plays or judges."""

    name: Literal["scripted", "anthropic", "openai"] = "scripted"
    """`scripted` is deterministic, from the procedure's own examples: no key, no network, no cost. Default: scripted."""
    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    """The provider's model name; needed for every provider but `scripted`."""
    base_url: Url | None = Field(default=None, alias="baseURL")
    """`openai` only: an endpoint with the same API, such as a vLLM server, that the administrator allows. Default: OpenAI's own."""

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        if self.base_url is not None and self.name != "openai":
            raise ValueError("baseURL is for the openai provider only; remove it")
        if self.name != "scripted" and self.model is None:
            raise ValueError("model is missing: every provider but scripted needs the name of a model")
        return self


class Baseline(ApiModel):
    """Another way to follow the procedure, played for comparison; it has no say in the verdict."""

    kind: Literal["InContext", "Orchestrator"]
    """`InContext`: a model with the whole flowchart in its system prompt. `Orchestrator`: a graph of the procedure's nodes, with a
    model that writes each turn and chooses at every hub."""
    provider: Provider
    """The model; for an orchestrator with the base model itself, a vLLM server as an openai provider."""


class GenerationSettings(ApiModel):
    """How the dataset is written."""

    teacher: Provider = Provider()
    """Who writes the conversations."""
    conversations: Annotated[int, Field(ge=20, le=100000)] | None = None
    """How many to write for each seed, held-out ones included."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=16)] | None = None
    """One batch of conversations is written for each of these random seeds."""
    held_out_percent: Annotated[int, Field(ge=1, le=50)] | None = None
    """Share of the conversations that is kept from training."""
    audit: Literal["Enforce", "Report"] = "Enforce"
    """What happens when a blind reader cannot tell a hub's branches from what customers say: `Enforce` stops the run before the
    rest is written, `Report` goes on and names the hub in the stage's message. Default: Enforce."""


class BaseModelSource(ApiModel):
    """The model that is fine-tuned."""

    uri: Annotated[str, StringConstraints(pattern=r"^(scratch|hf://.+|pvc://.+|s3://.+)$", max_length=500)] = "scratch"
    """`scratch` makes a tiny model on the spot (CPU, no hub); else `hf://org/name`, `pvc://path` or `s3://bucket/path`."""


class TrainingSettings(ApiModel):
    """Full-parameter supervised fine-tuning. Unset fields take the defaults of the base model's kind."""

    optimizer: Literal["adamw", "muon"] | None = None
    """How the weights are moved."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The highest learning rate of the schedule."""
    epochs: Annotated[int, Field(ge=1, le=100)] | None = None
    """How often the model sees each conversation."""
    max_steps: Annotated[int, Field(ge=1, le=1000000)] | None = None
    """Stops after so many steps, whatever `epochs` says."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Conversations per optimizer step, over all ranks."""
    max_length: Annotated[int, Field(ge=128, le=131072)] | None = None
    """Tokens per conversation."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """How much DeepSpeed ZeRO spreads over the GPUs: 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights."""
    seed: Seed | None = None
    """Random seed of the order of the conversations and, for `scratch`, of the first weights."""
    checkpoint_steps: Annotated[int, Field(ge=1, le=1000000)] | None = None
    """Steps between checkpoints, from which a training that was interrupted goes on."""


class EvaluationSettings(ApiModel):
    """How the candidate is judged. The `scripted` judge goes by rules, which read only the words of a scripted teacher."""

    simulator: Provider = Provider()
    """Who plays the customers. Default: scripted."""
    judge: Provider = Provider()
    """Who scores the conversations. Default: scripted."""
    second_judge: Provider | None = None
    """Another opinion on every conversation: needed beside a judge that is a model. One of the two must be of another family than
    teacher and simulator."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=3)] = ()
    """Played and judged beside the candidate, for the report."""
    scenarios: Annotated[int, Field(ge=10, le=5000)] | None = None
    """How many conversations are played with the candidate; the more, the narrower the intervals that the gate decides by.
    Default: 300."""
    seed: Seed | None = None
    """Random seed of the scenarios; another than the training's."""


class CompileInputs(ApiModel):
    """Everything that determines the result. Immutable."""

    procedure_ref: LocalReference
    """The Procedure that is compiled."""
    procedure_digest: Digest | None = None
    """When set, the run refuses to start from a procedure that has another digest."""
    base_model: BaseModelSource = BaseModelSource()
    generation: GenerationSettings = GenerationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


class ResourceRequirements(ApiModel):
    """Requests and limits of a pod's main container."""

    requests: Quantities = {}
    """What the scheduler keeps free for it, such as `cpu: 2` or `nvidia.com/gpu: 1`."""
    limits: Quantities = {}
    """What it may use at most."""


class StagePod(ApiModel):
    """Where and with what a stage runs."""

    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits; what is not said comes from the operator's settings."""
    node_selector: Labels = {}
    """Labels that a node must have, as in a pod."""
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=20)] = ()
    """Taints that are put up with, as in a pod."""
    active_deadline_seconds: Annotated[int, Field(ge=60, le=1209600)] | None = None
    """After so many seconds the stage is stopped and the run fails with DeadlineExceeded."""
    ranks: Annotated[int, Field(ge=1, le=64)] | None = None
    """Processes of the training job: one per GPU; on CPU one per core given to it."""


class GatePolicy(ApiModel):
    """What a candidate must reach with confidence: bounds decide, not means. Not worse than what serves, and above the floors."""

    min_scenarios: Annotated[int, Field(ge=1, le=5000)] = 100
    """With fewer played scenarios the verdict is Inconclusive. Default: 100."""
    margin: Annotated[float, Field(gt=0, le=4)] = 0.25
    """A criterion may be worse than that of the serving version by less than so many points, of 1 to 5. Default: 0.25."""
    failure_margin: Annotated[float, Field(gt=0, le=1)] = 0.06
    """The share of failures may be larger than that of the serving version by less than this. Default: 0.06."""
    max_missing: Share = 0.02
    """With a larger share of judgements that the judges did not give the verdict is Inconclusive. Default: 0.02."""
    dry_run: bool = False
    """The verdict is told, and moves no traffic."""
    min_score: Score = 3.5
    """What each criterion's mean score must reach, of 1 to 5. Default: 3.5."""
    max_failure_rate: Share = 0.2
    """The largest tolerable share of conversations with a Task Success of 3 or less. Default: 0.2."""
    min_conformance: Share = 0.8
    """The smallest tolerable share of conversations that follow the procedure to its end. Default: 0.8."""
    max_branch_failure_rate: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """A branch that surely fails more often than this, in 30 conversations or more, fails the candidate. Default: 0.4."""


class ApiKeySecrets(ApiModel):
    """Where each provider's key is."""

    anthropic: SecretKeyReference | None = None
    """Of the Messages API."""
    openai: SecretKeyReference | None = None
    """Of OpenAI, and of other endpoints with its API."""


class ExecutionSettings(ApiModel):
    """How the run is carried out. May change while it runs."""

    suspend: bool = False
    """Stops the job at work; what it made is kept, and the run goes on from there when this is false again."""
    max_usd: Annotated[Money | None, Field(alias="maxUSD")] = None
    """Hard cap on what the run may pay to providers. May be raised; the next attempt is told."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """Hard cap on what all runs of the run's agent may pay to providers within 30 days; of this run alone when it has no agent."""
    queue_name: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The Kueue LocalQueue in which the jobs wait for their turn; needs Kueue."""
    api_key_secret: SecretKeyReference | None = None
    """The key of the teacher's provider; needed for every provider but `scripted`."""
    api_key_secrets: ApiKeySecrets = ApiKeySecrets()
    """Keys by provider, for simulator, judges and baselines; they come before `apiKeySecret`."""
    generate: StagePod = StagePod()
    """The pod that writes the conversations."""
    train: StagePod = StagePod()
    """The pod that trains."""
    evaluate: StagePod = StagePod()
    """The pod that plays and judges; the candidate's vLLM runs beside it."""
    gate: GatePolicy = GatePolicy()
    """What the candidate must reach."""


class Reference(ApiModel):
    """A finished model that is played and judged beside the candidate."""

    role: Literal["Serving", "Anchor"]
    """`Serving`: what had traffic when the run was made. `Anchor`: what the agent's `promotion.anchor` names."""
    run: Annotated[str, StringConstraints(max_length=253)]
    """The CompileRun that made it."""
    model_digest: Digest
    """Digest of the model."""
    model_path: Annotated[str, StringConstraints(max_length=500)]
    """Where the model is in the store."""
    base_model: BaseModelSource = BaseModelSource()
    """What it was fine-tuned from."""
    max_length: Annotated[int, Field(ge=128, le=131072)] | None = None
    """Tokens per conversation that it was trained for."""


class CompileRunSpec(ApiModel):
    """What to compile, and how the work is carried out."""

    inputs: CompileInputs
    """Everything that determines the result. Immutable."""
    execution: ExecutionSettings = ExecutionSettings()
    """How the run is carried out. May change while it runs."""
    references: Annotated[tuple[Reference, ...], Field(max_length=2)] = ()
    """Models to compare with; none: the floors decide. Set by the agent when it makes the run. Immutable."""
    attempt: Annotated[int, Field(ge=1, le=1000000)] = 1
    """How many runs the agent has made of this procedure, this one included: each has a smaller chance to pass by luck. Set by the
    agent when it makes the run. Immutable. Default: 1."""


class StageStatus(StatusModel):
    """How far one stage is."""

    name: StageName
    """generate, train, evaluate or gate."""
    state: StageState = "Pending"
    """Pending, Running, Succeeded or Failed."""
    attempt: int = 0
    """How often it was begun."""
    retries: int = 0
    """How often it was tried again by itself since somebody asked for it."""
    job_name: str | None = None
    """The Job of this attempt."""
    started_at: str | None = None
    """When this attempt began."""
    finished_at: str | None = None
    """When it ended."""
    percent: int = 0
    """How far it is."""
    eta_seconds: int | None = None
    """Seconds that are probably left."""
    usd: Annotated[Money | None, Field(alias="usd")] = None
    """What it paid to providers so far, all attempts together."""
    tokens: int | None = None
    """Tokens that it was billed for."""
    reason: str | None = None
    """Why it failed, in one word."""
    message: str | None = None
    """What it is doing, or why it failed and what to do."""


class Artifacts(StatusModel):
    """Digests of the manifests of what the run made."""

    dataset: str | None = None
    """Digest of the dataset."""
    model: str | None = None
    """Digest of the model: what `promotion.pin` and `model.digest` of a CompiledAgent take."""
    report: str | None = None
    """Digest of the report."""
    dataset_path: str | None = None
    """Where the dataset is in the store."""
    model_path: str | None = None
    """Where the model is in the store."""
    report_path: str | None = None
    """Where the report is in the store."""


class CompileRunStatus(StatusModel):
    """How far the run is and what came of it."""

    observed_generation: int = 0
    """The metadata.generation that this status is about; -1 before the operator has looked."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Succeeded: all stages are done. Generated, Trained, Evaluated: each of them. Promotable: the gate's verdict.
    Reconciling: work goes on. Stalled: a person is needed."""
    phase: str | None = None
    """A summary of the conditions: Pending, Generating, Training, Evaluating, Succeeded, Failed, Suspended or Superseded."""
    progress: str | None = None
    """The stage at work and how far it is, for `kubectl get`."""
    procedure_digest: str | None = None
    """Digest of the procedure that is compiled; see the Procedure's status.digest."""
    retry_at: str | None = None
    """The `subterra.dev/retryAt` annotation that was last obeyed."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=8)] = ()
    """How far each stage is."""
    artifacts: Artifacts = Artifacts()
    """What was made, with its digests."""
    usd: Money | None = None
    """What all stages together paid to providers, in US dollars."""
    scores: Scores | None = None
    """What the evaluation measured."""
    verdict: Verdict | None = None
    """The gate's decision and why."""
    banner: str | None = None
    """What the scores are no evidence for."""
