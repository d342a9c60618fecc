"""CompileRun: one compilation of one procedure, from synthetic conversations to an evaluated model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer, model_validator

from subterra_api.v1alpha1.base import (
    MAP,
    ApiModel,
    Condition,
    Digest,
    LocalReference,
    Money,
    SecretKeyReference,
    Seed,
    StatusModel,
)
from subterra_api.v1alpha1.judging import JudgeCertificate, JudgingSettings, Language
from subterra_api.v1alpha1.pod_settings import QueueName
from subterra_api.v1alpha1.scores import Scores, Verdict
from subterra_api.v1alpha1.stage_pods import EvaluationPod, GenerationPod, TrainingPod
from subterra_api.v1alpha1.training_settings import TrainingSettings, require_pretrained

StageName = Literal["generate", "train", "evaluate", "gate"]
StageState = Literal["Pending", "Running", "Succeeded", "Failed"]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=1, le=5)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://.+$", max_length=500)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model thinks before it answers, from nothing to most. Each model allows some of these."""
OWN_REQUEST_FIELDS = frozenset(
    {"functions", "max_completion_tokens", "max_tokens", "messages", "model", "n", "response_format", "stream", "tools"}
)
"""Fields of a request that decide what is asked and what it may cost."""


class Provider(ApiModel):
    """A model provider: teacher, simulator, judge or baseline."""

    name: Literal["scripted", "anthropic", "openai"] = "scripted"
    """`scripted` works deterministically from the procedure's own examples: no key, no network, no cost. Default: scripted."""
    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    """The provider's model name; required except for `scripted`."""
    base_url: Url | None = Field(default=None, alias="baseURL")
    """`openai` only: an endpoint with the same API, such as a vLLM server, that the administrator allows. Default: OpenAI's API."""
    effort: Effort | None = None
    """How much the model thinks before it answers; thinking is billed as output. Default: the least that the model allows, nothing
    for a model that does not think unless asked."""
    extra_body: Annotated[dict[str, Any], MAP, Field(max_length=16)] | None = None
    """Further fields of each request to `baseURL`, such as `chat_template_kwargs: {enable_thinking: false}` for a vLLM server."""

    @model_serializer(mode="wrap")
    def _without_what_older_keys_lack(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out fields that were added later and are not set: keys of artifacts cover all fields, unset ones too."""
        added = {"effort": self.effort, "extra_body": self.extra_body, "extraBody": self.extra_body}
        return {name: value for name, value in dump(self).items() if name not in added or added[name] is not None}

    @model_validator(mode="after")
    def _fits_its_name(self) -> Self:
        if self.base_url is not None and self.name != "openai":
            raise ValueError("baseURL is for the openai provider only; remove it")
        if self.extra_body is not None and self.base_url is None:
            raise ValueError("extraBody is for an endpoint named by baseURL only; remove it")
        if taken := sorted(OWN_REQUEST_FIELDS & set(self.extra_body or {})):
            raise ValueError(f"extraBody must not contain {', '.join(taken)}; remove it")
        if self.name != "scripted" and self.model is None:
            raise ValueError("model is missing; every provider except scripted needs one")
        return self


class Baseline(ApiModel):
    """Another way to follow the procedure, simulated for comparison. It affects no verdict, except that a candidate fails if it is
    clearly worse than the first InContext baseline where an edit leaves nothing else to compare with."""

    kind: Literal["InContext", "Orchestrator"]
    """`InContext`: a model with the whole flowchart in its system prompt. `Orchestrator`: code that follows the flowchart, with a
    model that writes each turn and chooses an edge at every hub."""
    provider: Provider
    """The model. To orchestrate the base model itself, name a vLLM server as an `openai` provider."""


class GenerationSettings(ApiModel):
    """How the dataset is written."""

    teacher: Provider = Provider()
    """Who writes the conversations."""
    conversations: Annotated[int, Field(ge=20, le=100000)] | None = None
    """Number of conversations per seed, including held-out ones."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=16)] | None = None
    """Random seeds; one batch of conversations is written for each."""
    held_out_percent: Annotated[int, Field(ge=1, le=50)] | None = None
    """Percentage of the conversations held out from training."""
    audit: Literal["Enforce", "Report"] = "Enforce"
    """What happens when a blind reader cannot tell from the customers' words which branch of a hub was taken: `Enforce` stops the
    run before the rest is written, `Report` continues and names the hub in the stage's message. Default: Enforce."""


BaseModelKind = Literal["scratch", "bundled", "external"]
HUB_SCHEME = "hf://"
BUNDLED_SCHEME = "bundled://"


class BaseModelSource(ApiModel):
    """Model to fine-tune."""

    uri: Annotated[
        str,
        StringConstraints(pattern=r"^(scratch|bundled://SmolLM2-135M-Instruct|hf://.+|pvc://.+|s3://.+)$", max_length=500),
    ] = "scratch"
    """`bundled://SmolLM2-135M-Instruct` comes with the jobs image (CPU, no download); `scratch` makes a tiny model that knows
    nothing but the procedure's words; otherwise `hf://org/name`, `hf://org/name@revision`, `pvc://path` or `s3://bucket/path`.
    Default: scratch."""

    @property
    def kind(self) -> BaseModelKind:
        """Where the model comes from, on which defaults depend."""
        if self.uri == "scratch":
            return "scratch"
        return "bundled" if self.uri.startswith(BUNDLED_SCHEME) else "external"


class EvaluationSettings(ApiModel):
    """How the candidate is judged. The `scripted` judge uses rules that understand only the phrasings of a scripted teacher."""

    simulator: Provider = Provider()
    """Simulator that plays the customers. Default: scripted."""
    judge: Provider = Provider()
    """Judge that scores the conversations. Default: scripted."""
    second_judge: Provider | None = None
    """Second judge of every conversation; required when the judge is a model. At least one of the two must be of a different model
    family than teacher and simulator."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=3)] = ()
    """Baselines to simulate and judge along with the candidate, for the report."""
    scenarios: Annotated[int, Field(ge=10, le=5000)] | None = None
    """Number of conversations with the candidate; more of them give the gate narrower confidence intervals. Default: 300."""
    seed: Seed | None = None
    """Random seed of the scenarios; use one that differs from the training's. Default: 7."""
    trials: Annotated[int, Field(ge=1, le=8)] = 1
    """Number of conversations with each of up to 100 customers, in other words each time, for pass^k. Default: 1."""


class CompileInputs(ApiModel):
    """Everything that determines the result. Immutable."""

    procedure_ref: LocalReference
    """The Procedure to compile."""
    procedure_digest: Digest | None = None
    """If set, the run starts only from a procedure with this digest."""
    base_model: BaseModelSource = BaseModelSource()
    generation: GenerationSettings = GenerationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _trains_what_it_can(self) -> Self:
        require_pretrained(self.training, self.base_model.uri)
        return self


class GatePolicy(ApiModel):
    """Thresholds for promotion, applied to confidence bounds: not worse than the serving version, and above the floors."""

    min_scenarios: Annotated[int, Field(ge=1, le=5000)] = 100
    """Minimum number of simulated scenarios; with fewer the verdict is Inconclusive. Default: 100."""
    margin: Annotated[float, Field(gt=0, le=4)] = 0.25
    """Non-inferiority margin: by how many points (of 1 to 5) a criterion may be below the serving version. Default: 0.25."""
    failure_margin: Annotated[float, Field(gt=0, le=1)] = 0.06
    """Non-inferiority margin of the failure rate, as a share. Default: 0.06."""
    conformance_margin: Annotated[float, Field(gt=0, le=1)] = 0.07
    """Non-inferiority margin of the share of conversations that follow the procedure. Default: 0.07."""
    max_missing: Share = 0.02
    """Maximum share of missing judgements; with more the verdict is Inconclusive. Default: 0.02."""
    min_kappa: Share = 0.4
    """Minimum agreement of two judges (weighted kappa); with less, Inconclusive, unless scores hardly differ. Default: 0.4."""
    max_repeat_sd: Annotated[float, Field(ge=0, le=4)] = 0.75
    """Maximum standard deviation of a judge's scores of the same conversation; with more the verdict is Inconclusive.
    Default: 0.75."""
    require_certified_judge: bool = False
    """Demand a certificate for judges that are models; without one that holds the verdict is Inconclusive. Default: false."""
    judge_certificates: Annotated[tuple[JudgeCertificate, ...], Field(max_length=8)] = ()
    """Certificates of judges, as `subterra judge calibrate --certificate` writes them."""
    language: Language = "en"
    """Language of the conversations: a certificate holds for one. Default: en."""
    dry_run: bool = False
    """Report the verdict without moving traffic. Default: false."""
    min_score: Score = 3.5
    """Minimum mean score of each criterion, 1 to 5. Default: 3.5."""
    max_failure_rate: Share = 0.2
    """Maximum share of conversations with a Task Success of 3 or less. Default: 0.2."""
    min_conformance: Share = 0.8
    """Minimum share of conversations that follow the procedure to its end. Default: 0.8."""
    max_fabrication_rate: Share = 0.02
    """Maximum share, of all values that the agent asserts, of values that neither customer nor context gave. Default: 0.02."""
    min_phrasings: Share = 0.7
    """Minimum share of conversations that follow the procedure although the customer uses words of no training conversation.
    Default: 0.7."""
    min_pass_all_trials: Share = 0.6
    """Minimum share of customers with whom all of several `evaluation.trials` succeed (pass^k). Default: 0.6."""
    max_branch_failure_rate: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Maximum failure rate of a branch; a significantly higher one fails the candidate. Default: 0.4."""


class ApiKeySecrets(ApiModel):
    """Secrets with the API key of each provider."""

    anthropic: SecretKeyReference | None = None
    """Key for the Anthropic API."""
    openai: SecretKeyReference | None = None
    """Key for OpenAI, and for other endpoints with its API."""


class ExecutionSettings(ApiModel):
    """How the run is executed. May be changed while it runs."""

    suspend: bool = False
    """Suspends the run; its work is kept, and it resumes when this is false again. Default: false."""
    max_usd: Annotated[Money | None, Field(alias="maxUSD")] = None
    """Hard cap on the run's provider spending in US dollars. It may be raised; the next attempt uses the new value."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """Hard cap on provider spending within 30 days of all runs of the agent, or of this run alone if it has no agent."""
    queue_name: QueueName | None = None
    """Kueue LocalQueue for the jobs of all stages; requires Kueue."""
    api_key_secret: SecretKeyReference | None = None
    """API key for the teacher's provider; required except for `scripted`."""
    api_key_secrets: ApiKeySecrets = ApiKeySecrets()
    """API keys by provider, for simulator, judges and baselines; they take precedence over `apiKeySecret`."""
    hub_token_secret: SecretKeyReference | None = None
    """Token for a base model on a hub that is private or gated."""
    generate: GenerationPod = GenerationPod()
    """The pod that writes the conversations."""
    train: TrainingPod = TrainingPod()
    """The pod that trains the model, or the pods if it is trained on several nodes."""
    evaluate: EvaluationPod = EvaluationPod()
    """The pod that simulates and judges; the candidate's vLLM server runs next to it."""
    judging: JudgingSettings | None = None
    """How judges are asked: call by call, or in batches at about half the price."""
    serving_args: Annotated[tuple[Annotated[str, StringConstraints(max_length=200)], ...], Field(max_length=30)] = ()
    """Arguments of the evaluation's vLLM servers. An agent sets those of its `serving.args` that change replies."""
    gate: GatePolicy = GatePolicy()
    """Thresholds that the candidate must reach."""


class Reference(ApiModel):
    """A finished model that is simulated and judged along with the candidate."""

    role: Literal["Serving", "Anchor"]
    """`Serving`: the version with traffic when the run was created. `Anchor`: the model named by the agent's `promotion.anchor`, or
    the first that it served."""
    run: Annotated[str, StringConstraints(max_length=253)]
    """The CompileRun that made it."""
    model_digest: Digest
    """Digest of the model."""
    model_path: Annotated[str, StringConstraints(max_length=500)]
    """Path of the model in the store."""
    base_model: BaseModelSource = BaseModelSource()
    """The model that it was fine-tuned from."""
    max_length: Annotated[int, Field(ge=128, le=131072)] | None = None
    """Maximum tokens per conversation in its training."""
    stored: bool = False
    """Only its conversations in the store are judged again; no server is started for it. Default: false."""
    tools: bool = False
    """Whether its procedure has tools. Default: false."""


class CompileRunSpec(ApiModel):
    """What to compile, and how to execute the run."""

    inputs: CompileInputs
    """Everything that determines the result. Immutable."""
    execution: ExecutionSettings = ExecutionSettings()
    """How the run is executed. May be changed while it runs."""
    references: Annotated[tuple[Reference, ...], Field(max_length=2)] = ()
    """Models to compare with; without any, the floors decide. Set by the agent when it creates the run. Immutable."""
    attempt: Annotated[int, Field(ge=1, le=1000000)] = 1
    """Number of the agent's evaluated runs of this procedure since the last promotion, including this one: each later attempt has a
    smaller chance to pass by luck.
    Set by the agent when it creates the run. Immutable. Default: 1."""
    reevaluates: Annotated[str, StringConstraints(max_length=253)] | None = None
    """A CompileRun in this namespace whose model is evaluated again, with `inputs.evaluation`: nothing is generated or trained, and
    nothing is promoted. Set by the agent for `subterra.dev/reevaluate-at`. Immutable."""


class StageStatus(StatusModel):
    """Progress of one stage."""

    name: StageName
    """Name: generate, train, evaluate or gate."""
    state: StageState = "Pending"
    """State: Pending, Running, Succeeded or Failed."""
    attempt: int = 0
    """Number of attempts."""
    retries: int = 0
    """Number of automatic retries since the last manual one."""
    disruptions: int | None = None
    """Number of disruptions in a row, such as evictions, with no progress between them. They are no failures."""
    job_name: str | None = None
    """The Job of this attempt."""
    started_at: str | None = None
    """Start time of this attempt."""
    finished_at: str | None = None
    """End time of this attempt."""
    reported_at: str | None = None
    """Time at which the stage's pod last reported progress. Written only with progress, so it grows old when none is heard."""
    percent: int = 0
    """Progress in percent."""
    eta_seconds: int | None = None
    """Estimated seconds remaining."""
    usd: Annotated[Money | None, Field(alias="usd")] = None
    """Provider spending so far in US dollars, over all attempts."""
    tokens: int | None = None
    """Number of billed tokens."""
    reason: str | None = None
    """Machine-readable reason for the failure or, while the stage is Running, for its pod not running."""
    message: str | None = None
    """Current activity, or why it failed or does not run and what to do."""


class Artifacts(StatusModel):
    """Digests and paths of the run's artifacts."""

    dataset: str | None = None
    """Digest of the dataset."""
    model: str | None = None
    """Digest of the model, for `promotion.pin` and `model.digest` of a CompiledAgent."""
    report: str | None = None
    """Digest of the report."""
    dataset_path: str | None = None
    """Path of the dataset in the store."""
    model_path: str | None = None
    """Path of the model in the store."""
    report_path: str | None = None
    """Path of the report in the store."""


class CompileRunStatus(StatusModel):
    """Progress and result of the run."""

    observed_generation: int = 0
    """The metadata.generation that this status describes; -1 before the operator has seen the object."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Succeeded: all stages have finished. Generated, Trained, Evaluated: the single stages. Promotable: the gate's verdict.
    Reconciling: work is in progress. Stalled: a person must act."""
    phase: str | None = None
    """Summary of the conditions: Pending, Generating, Training, Evaluating, Succeeded, Failed, Blocked, Suspended or Superseded."""
    progress: str | None = None
    """Current stage and its progress, for `kubectl get`."""
    procedure_digest: str | None = None
    """Digest of the procedure being compiled; see the Procedure's status.digest."""
    tools: bool | None = None
    """Whether the procedure has tools, so that its model is served with vLLM's tool parser; absent if it has none."""
    retry_at: str | None = None
    """Value of the `subterra.dev/retry-at` annotation that was last acted on."""
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=8)] = ()
    """Progress of each stage."""
    artifacts: Artifacts = Artifacts()
    """Digests and paths of the run's artifacts."""
    usd: Money | None = None
    """Provider spending of all stages in US dollars."""
    scores: Scores | None = None
    """Results of the evaluation."""
    verdict: Verdict | None = None
    """The gate's decision and its reasons."""
    banner: str | None = None
    """Disclaimer: what the scores cannot be evidence for."""
