"""Messages between the operator and its jobs: run input, budget, gate, result, exit codes, progress."""

from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from subterra_api.job_contract.artifacts import ArtifactKeys, Stage
from subterra_api.v1alpha1.base import ApiModel, Money, StatusModel
from subterra_api.v1alpha1.compiledagent import Price
from subterra_api.v1alpha1.compilerun import (
    Baseline,
    BaseModelSource,
    GatePolicy,
    Provider,
    Reference,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Scores
from subterra_api.v1alpha1.training_settings import Optimizer


class ExitCode(IntEnum):
    """Exit codes of a job. The operator automatically retries 13 and 14 only."""

    SUCCEEDED = 0
    INTERNAL = 1
    INVALID_INPUT = 10
    BUDGET_EXCEEDED = 11
    PROVIDER_BLOCKED = 12
    PROVIDER_UNAVAILABLE = 13
    INFRASTRUCTURE = 14


LOST_CONTACT = "the ranks lost contact with each other"
"""How the message of a training begins that another pod's end explains."""
RETRIED = frozenset({ExitCode.PROVIDER_UNAVAILABLE, ExitCode.INFRASTRUCTURE})


class Generation(ApiModel):
    """Effective generation settings."""

    teacher: Provider
    conversations: int
    seeds: tuple[int, ...]
    held_out_percent: int
    audit: Literal["Enforce", "Report"] = "Enforce"


class Lora(ApiModel):
    """Effective settings of low-rank adapters."""

    rank: int
    alpha: int


class Training(ApiModel):
    """Effective training settings."""

    method: Literal["full", "lora"] = "full"
    lora: Lora | None = None
    """Set with `method: lora`."""
    optimizer: Optimizer
    learning_rate: float
    epochs: int
    max_steps: int | None
    batch_size: int
    max_length: int
    zero_stage: int
    seed: int
    checkpoint_steps: int

    @model_serializer(mode="wrap")
    def _without_what_older_keys_lack(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the method where every weight is trained: keys of models cover all fields, and older ones lack these."""
        return {name: value for name, value in dump(self).items() if self.lora is not None or name not in ("method", "lora")}


class Evaluation(ApiModel):
    """Effective evaluation settings."""

    simulator: Provider
    judge: Provider
    second_judge: Provider | None = None
    baselines: tuple[Baseline, ...] = ()
    scenarios: int
    seed: int
    trials: int = 1

    @model_serializer(mode="wrap")
    def _without_a_single_trial(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `trials: 1` out, so that keys of reports from before this field existed stay valid."""
        fields: dict[str, Any] = dump(self)
        return fields if self.trials > 1 else {name: value for name, value in fields.items() if name != "trials"}


class RunIdentity(ApiModel):
    """Identity of a run."""

    name: str
    namespace: str
    uid: str
    agent: str | None = None
    """The agent that created the run."""

    @property
    def payer(self) -> str:
        """Account that is charged: the agent for all its runs, or the run itself if it has no agent."""
        return f"agent-{self.agent}" if self.agent else f"run-{self.uid}"


class Budget(ApiModel):
    """Caps on provider spending. Not part of the input: each attempt gets the caps current at its start."""

    max_usd: Annotated[Money | None, Field(alias="maxUSD")] = None
    """Cap for the run, over all stages and attempts."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """Cap for all runs of the payer, in the 30 days before a call."""
    max_usd_per_namespace_per_30_days: Annotated[Money | None, Field(alias="maxUSDPerNamespacePer30Days")] = None
    """The administrator's cap for all payers of the namespace, in the 30 days before a call."""


class Gate(ApiModel):
    """Thresholds for the candidate. Not part of the input: each attempt gets the policy current at its start."""

    policy: GatePolicy = GatePolicy()
    attempt: Annotated[int, Field(ge=1)] = 1
    """Number of the agent's evaluated runs of this procedure since the last promotion, including this one."""


class RunInput(ApiModel):
    """Frozen input of all stages of a run, with every effective default."""

    contract: Literal[1] = 1
    run: RunIdentity
    procedure: ProcedureSpec
    procedure_digest: str
    base_model: BaseModelSource
    generation: Generation
    training: Training
    evaluation: Evaluation
    keys: ArtifactKeys
    references: tuple[Reference, ...] = ()
    """Models to simulate and judge along with the candidate."""
    store: str
    """fsspec URI of the namespace's prefix, such as `file:///store`."""
    ranks: int = 1
    banner: str | None = None


class EvaluatedAgain(ApiModel):
    """What an evaluation of another run's model changes about that run's input."""

    run: RunIdentity
    """Who evaluates, and is charged."""
    evaluation: Evaluation


class StageResult(ApiModel):
    """Termination message of a job."""

    stage: Stage
    key: str
    """Content address of the artifact."""
    digest: str = ""
    """Digest of the artifact's manifest."""
    path: str = ""
    """Path of the artifact, relative to the store."""
    usd: str = "0"
    tokens: int = 0
    reused: bool = False
    """True if the artifact already existed and nothing was paid."""
    message: str = ""
    scores: Scores | None = None


class Calls(ApiModel):
    """Progress of a stage's provider calls."""

    answered: int = 0
    """Calls answered since this attempt started."""
    per_minute: float = 0.0
    limit: float | None = None
    """Calls per minute allowed by the account's limits; `None` if the provider reports no limits."""
    max_usd: Annotated[str | None, Field(alias="maxUSD")] = None
    """Spending cap of the run in US dollars."""


class Progress(ApiModel):
    """Progress that a job reports on its progress port."""

    stage: Stage
    done: int = 0
    planned: int = 0
    unit: str = "steps"
    percent: int = Field(default=0, ge=0, le=100)
    eta_seconds: int | None = None
    usd: str = "0"
    tokens: int = 0
    message: str = ""
    calls: Calls | None = None


class ServedWork(StatusModel):
    """What a serving pod did since it started, as exact sums: those of several pods add up."""

    busy_seconds: float = 0.0
    """Seconds in which requests were being executed."""
    seconds: float = 0.0
    """All seconds, idle ones too."""
    conversations: float = 0.0
    """Completed requests divided by the turns of a conversation."""
    prompt_tokens: float = 0.0
    """Tokens read."""
    generation_tokens: float = 0.0
    """Tokens written."""
    prefill_seconds: float = 0.0
    """Time that requests were being read, overlapping ones added up."""
    decode_seconds: float = 0.0
    """Time that answers were being written, overlapping ones added up."""
    requests: float = 0.0
    """HTTP requests for an answer that were responded to, whatever the status."""
    failed_requests: float = 0.0
    """Those with a status of 500 or above."""


class HubCounts(StatusModel):
    """What was seen at one decision hub."""

    turns: int = 0
    """Turns of customers who decided there."""
    unrecognized: int = 0
    """Those whose words are like no example of a way on from there."""
    violations: int = 0
    """Conversations in which the reply to the decision was the first wrong one."""


class ServedCounts(StatusModel):
    """What the labeller made of a sample of conversations: counts, which add up over pods."""

    requests: int = 0
    """Replies that were read."""
    conversations: int = 0
    """Conversations that a reply decided: it came to the right end, or was the first wrong one."""
    conformant: int = 0
    """Those that came to the right end without a wrong reply."""
    asserted: int = 0
    """Values that the agent asserted."""
    fabricated: int = 0
    """Those that neither the customer nor the context had given."""
    endings: dict[str, int] = {}
    """Replies that came to an end, by terminal."""
    hubs: dict[str, HubCounts] = {}
    """By decision hub."""


class ServedSample(StatusModel):
    """What a pod's monitor has counted, by weeks that begin on Monday (UTC), so that those of all pods add up."""

    week: str
    """Monday of the current week."""
    current: ServedCounts = ServedCounts()
    """Since then."""
    previous: ServedCounts = ServedCounts()
    """The week before."""
    reference: ServedCounts | None = None
    """The version's own evaluation, read by the same labeller in the same way; absent if its report is not in the store."""
    problem: str | None = None
    """Why nothing is counted."""


class MonitorState(StatusModel):
    """A pod's monitor: what its exporter publishes."""

    sample: ServedSample
    total: ServedCounts = ServedCounts()
    """Since the pod started."""
    unreadable: int = 0
    """Records that could not be read."""


class PodPrice(Price):
    """The page `/price` of a serving pod. Exporters of earlier releases have no `work`."""

    work: ServedWork | None = None
    sample: ServedSample | None = None
    """Only of pods with a monitor."""
