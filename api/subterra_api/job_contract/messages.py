"""What passes between the operator and its jobs: input file, result, exit codes, artifact keys, progress."""

from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from subterra_api.digest import HASH_VERSION, sha256, short
from subterra_api.v1alpha1.base import ApiModel, Money
from subterra_api.v1alpha1.compilerun import (
    Baseline,
    BaseModelSource,
    CompileInputs,
    EvaluationSettings,
    GatePolicy,
    GenerationSettings,
    Provider,
    Reference,
    TrainingSettings,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Scores

WRITER_VERSION = 2
"""Raised when planner or writer make something else of the same input. It is in the addresses of datasets, in no run's name."""
EVALUATOR_VERSION = 2
"""Raised when an evaluation finds something else in the same model. It is in the addresses of reports, in no run's name."""
INPUT_FILE = "/etc/subterra/input.json"
STORE_MOUNT = "/store"
PROCEDURE_FILE = "procedure.json"
"""In a model's directory: the procedure that it was compiled from."""
PROGRESS_PORT = 8787
EXPORTER_PORT = 8788
VLLM_PORT = 8000
TERMINATION_LOG = "/dev/termination-log"
BUDGET_VARIABLE = "SUBTERRA_BUDGET"
"""Environment variable of a paid stage: its `Budget` as JSON."""
KEY_VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
"""Environment variable in which each provider's SDK looks for the key."""
ENDPOINTS_VARIABLE = "SUBTERRA_OPENAI_ENDPOINTS"
"""Environment variable of a paid stage: base URLs that the administrator allows beside OpenAI's own, as a JSON list."""
VLLM_VARIABLE = "SUBTERRA_VLLM_URL"
"""Environment variable of evaluation and exporter: where the candidate, or what has traffic, is served."""
REFERENCES_VARIABLE = "SUBTERRA_REFERENCE_URLS"
"""Environment variable of the evaluation: where each of the input's references is served, in their order, as a JSON list."""
GATE_VARIABLE = "SUBTERRA_GATE"
"""Environment variable of the evaluation: the `Gate` that its candidate has before it, as JSON."""
CONCURRENCY_VARIABLE = "SUBTERRA_CONCURRENCY"
"""Environment variable of the evaluation: how many conversations are under way with each condition."""
PRICES_VARIABLE = "SUBTERRA_PRICES"
"""Environment variable of a paid stage: the administrator's `ModelPrice` of models by name, as JSON."""
RESULT_LIMIT = 4096
"""Bytes of a termination message that kubelet keeps."""

Stage = Literal["generate", "train", "evaluate"]
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")
ARTIFACT_KIND: dict[Stage, str] = {"generate": "datasets", "train": "models", "evaluate": "reports"}


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


class ArtifactKeys(ApiModel):
    """Content addresses: the digest of everything that determines each artifact."""

    dataset: str
    model: str
    report: str

    def of(self, stage: Stage) -> str:
        """The key of what ``stage`` makes."""
        return {"generate": self.dataset, "train": self.model, "evaluate": self.report}[stage]


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


_PRETRAINED = Training(
    optimizer="adamw", learning_rate=2e-5, epochs=4, max_steps=None, batch_size=16, max_length=4096, zero_stage=3, seed=42,
    checkpoint_steps=100,
)  # fmt: skip
_SCRATCH = Training(
    optimizer="muon", learning_rate=0.012, epochs=2, max_steps=1400, batch_size=8, max_length=1024, zero_stage=2, seed=42,
    checkpoint_steps=200,
)  # fmt: skip


def _filled(defaults: dict[str, Any], given: ApiModel) -> dict[str, Any]:
    return defaults | {name: value for name, value in given if value is not None}


def generation_of(given: GenerationSettings, scratch: bool) -> Generation:
    """Generation settings with defaults: a tiny model from scratch needs more conversations, which cost nothing."""
    defaults = {"conversations": 8000 if scratch else 2125, "seeds": (42,), "held_out_percent": 2 if scratch else 10}
    return Generation(**_filled(defaults, given))


def training_of(given: TrainingSettings, scratch: bool) -> Training:
    """Training settings with the defaults of the base model's kind."""
    return Training(**_filled(dict(_SCRATCH if scratch else _PRETRAINED), given))


def evaluation_of(given: EvaluationSettings) -> Evaluation:
    """Evaluation settings with defaults."""
    return Evaluation(**_filled({"scenarios": 300, "seed": 7}, given))


def resolve(
    inputs: CompileInputs, procedure: ProcedureSpec, procedure_digest: str, run: RunIdentity, *, store: str,
    ranks: int = 1, references: tuple[Reference, ...] = (),
) -> RunInput:  # fmt: skip
    """The frozen input of a run: what its stages will do, whatever defaults a later version has."""
    scratch = inputs.base_model.uri == "scratch"
    generation, training = generation_of(inputs.generation, scratch), training_of(inputs.training, scratch)
    evaluation = evaluation_of(inputs.evaluation)
    dataset = sha256([HASH_VERSION, WRITER_VERSION, procedure_digest, _written(generation)])
    model = sha256([dataset, inputs.base_model.uri, _whole(training)])
    report = sha256([EVALUATOR_VERSION, model, _whole(evaluation), *([each.role, each.model_digest] for each in references)])
    return RunInput(
        run=run, procedure=procedure, procedure_digest=procedure_digest, base_model=inputs.base_model, generation=generation,
        training=training, evaluation=evaluation, keys=ArtifactKeys(dataset=dataset, model=model, report=report), store=store,
        ranks=ranks, references=references, banner=banner(inputs),
    )  # fmt: skip


def _whole(effective: ApiModel) -> dict[str, Any]:
    """Every field, set or not: two spellings of the same settings are one key."""
    return effective.model_dump(mode="json", by_alias=True)


def _written(generation: Generation) -> dict[str, Any]:
    """What makes a dataset another one. A dataset that passed the audit is what it was before there was a choice."""
    whole = _whole(generation)
    return whole if generation.audit == "Report" else {name: value for name, value in whole.items() if name != "audit"}


def banner(inputs: CompileInputs) -> str | None:
    """What the figures of such a run are no evidence for; none when every part is real."""
    parts = []
    if inputs.generation.teacher.name == "scripted":
        parts.append("scripted teacher")
    if inputs.evaluation.simulator.name == "scripted":
        parts.append("scripted user")
    if inputs.evaluation.judge.name == "scripted":
        parts.append("rule judge")
    if inputs.base_model.uri == "scratch":
        parts.append("hand-constructed initialisation")
    if not parts:
        return None
    made_of = ", ".join(parts).capitalize()
    return f"{made_of}: scores and price show that the mechanism works; they are no evidence for the paper's claims."


def artifact_path(stage: Stage, key: str) -> str:
    """Where an artifact is, relative to the store: ``models/<hex>``."""
    return f"{ARTIFACT_KIND[stage]}/{short(key, 32)}"


def work_path(key: str) -> str:
    """Where the unfinished work on an artifact is kept, relative to the store: ``work/<hex>``."""
    return f"work/{short(key, 32)}"


def lease_path(key: str) -> str:
    """Where it is written down who works on an artifact, relative to the store: ``work/<hex>.lease``."""
    return f"{work_path(key)}.lease"
