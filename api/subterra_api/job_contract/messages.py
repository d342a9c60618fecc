"""What passes between the operator and its jobs: input file, result, exit codes, artifact keys, progress."""

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field

from subterra_api.job_contract.artifacts import ArtifactKeys, Stage
from subterra_api.v1alpha1.base import ApiModel, Money
from subterra_api.v1alpha1.compilerun import (
    Baseline,
    BaseModelSource,
    GatePolicy,
    Provider,
    Reference,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Scores


class ExitCode(IntEnum):
    """How a job ended. The operator retries 13 and 14 by itself, nothing else."""

    SUCCEEDED = 0
    INTERNAL = 1
    INVALID_INPUT = 10
    BUDGET_EXCEEDED = 11
    PROVIDER_BLOCKED = 12
    PROVIDER_UNAVAILABLE = 13
    INFRASTRUCTURE = 14


RETRIED = frozenset({ExitCode.PROVIDER_UNAVAILABLE, ExitCode.INFRASTRUCTURE})


class Generation(ApiModel):
    """Effective generation settings."""

    teacher: Provider
    conversations: int
    seeds: tuple[int, ...]
    held_out_percent: int
    audit: Literal["Enforce", "Report"] = "Enforce"


class Training(ApiModel):
    """Effective training settings."""

    optimizer: Literal["adamw", "muon"]
    learning_rate: float
    epochs: int
    max_steps: int | None
    batch_size: int
    max_length: int
    zero_stage: int
    seed: int
    checkpoint_steps: int


class Evaluation(ApiModel):
    """Effective evaluation settings."""

    simulator: Provider
    judge: Provider
    second_judge: Provider | None = None
    baselines: tuple[Baseline, ...] = ()
    scenarios: int
    seed: int


class RunIdentity(ApiModel):
    name: str
    namespace: str
    uid: str
    agent: str | None = None
    """The agent that the run was made for."""

    @property
    def payer(self) -> str:
        """Who is billed: the agent, for all its runs together, or a run without an agent by itself."""
        return f"agent-{self.agent}" if self.agent else f"run-{self.uid}"


class Budget(ApiModel):
    """Caps on what providers may be paid. No part of the input: each attempt is told those of the moment it begins."""

    max_usd: Annotated[Money | None, Field(alias="maxUSD")] = None
    """Of the run, all stages and attempts together."""
    max_usd_per_30_days: Annotated[Money | None, Field(alias="maxUSDPer30Days")] = None
    """Of all runs of the payer, in the 30 days before a call."""


class Gate(ApiModel):
    """What the candidate must reach. No part of the input: each attempt is told the policy of the moment it begins."""

    policy: GatePolicy = GatePolicy()
    attempt: Annotated[int, Field(ge=1)] = 1
    """The agent's runs of this procedure so far, with this one."""


class RunInput(ApiModel):
    """The frozen input of all stages of a run: every effective default is in it."""

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
    """Models that are played beside the candidate."""
    store: str
    """fsspec URI of the namespace's prefix, such as ``file:///store``."""
    ranks: int = 1
    banner: str | None = None


class StageResult(ApiModel):
    """A job's termination message."""

    stage: Stage
    key: str
    """Content address of the artifact."""
    digest: str = ""
    """Digest of the artifact's manifest."""
    path: str = ""
    """Where it is, relative to the store."""
    usd: str = "0"
    tokens: int = 0
    reused: bool = False
    """True when the artifact was there already and nothing was paid."""
    message: str = ""
    scores: Scores | None = None


class Calls(ApiModel):
    """How a stage that pays a provider gets on with it."""

    answered: int = 0
    """Since this attempt began."""
    per_minute: float = 0.0
    limit: float | None = None
    """Calls a minute that the account's limits let through; none when the provider tells none."""
    max_usd: Annotated[str | None, Field(alias="maxUSD")] = None
    """The cap of the run."""


class Progress(ApiModel):
    """What a job says on its progress port."""

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
