"""Effective settings of a run: all defaults, including hyperparameters."""

from typing import Any

from subterra_api.digest import HASH_VERSION, sha256
from subterra_api.job_contract.artifacts import ArtifactKeys
from subterra_api.job_contract.messages import EvaluatedAgain, Evaluation, Generation, Lora, RunIdentity, RunInput, Training
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compilerun import (
    BaseModelKind,
    CompileInputs,
    EvaluationSettings,
    GenerationSettings,
    Provider,
    Reference,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.training_settings import WITHOUT_MASTER_COPY, LoraSettings, TrainingSettings

WRITER_VERSION = 2
"""Incremented when planner or writer produce a different dataset from the same input, and what paid teachers wrote is to be written
again. Part of dataset keys, not of run names.
"""
SCRIPTED_WRITER_VERSION = 5
"""The same for the scripted teacher, which costs nothing: incremented alone when only its words change."""
EVALUATOR_VERSION = 2
"""Incremented when the same model would be evaluated differently. Part of report keys, not of run names."""
SCRIPTED_EVALUATOR_VERSION = 3
"""The same for a scripted simulator. A change of its customers costs nobody money, and moves no other report."""
_PRETRAINED = Training(
    optimizer="adamw",
    learning_rate=2e-5,
    epochs=4,
    max_steps=None,
    batch_size=16,
    max_length=4096,
    zero_stage=3,
    seed=42,
    checkpoint_steps=100,
)
_SCRATCH = Training(
    optimizer="muon",
    learning_rate=0.012,
    epochs=2,
    max_steps=1400,
    batch_size=8,
    max_length=1024,
    zero_stage=2,
    seed=42,
    checkpoint_steps=200,
)

_BUNDLED = Training(
    optimizer="adamw",
    learning_rate=3e-4,
    epochs=1,
    max_steps=None,
    batch_size=8,
    max_length=2048,
    zero_stage=2,
    seed=42,
    checkpoint_steps=40,
)
_TRAINING: dict[BaseModelKind, Training] = {"scratch": _SCRATCH, "bundled": _BUNDLED, "external": _PRETRAINED}
_CONVERSATIONS: dict[BaseModelKind, int] = {"scratch": 8000, "bundled": 800, "external": 2125}
"""A model from scratch needs more, but they cost nothing; the bundled one is trained on CPUs, where time is scarce."""
LORA_RANK, LORA_ALPHA_PER_RANK, LORA_LEARNING_RATE = 64, 2, 10
"""Adapters in the middle of the ranks that the paper reports (16 to 128), their scale, and how many times faster they learn than
whole matrices, as is common (Biderman et al. 2024, arXiv 2405.09673)."""
_HELD_OUT_PERCENT: dict[BaseModelKind, int] = {"scratch": 2, "bundled": 5, "external": 10}


def _with_defaults(defaults: dict[str, Any], settings: ApiModel) -> dict[str, Any]:
    return defaults | {name: value for name, value in settings if value is not None}


def generation_of(settings: GenerationSettings, kind: BaseModelKind) -> Generation:
    """Generation settings with the defaults for the kind of base model."""
    defaults = {"conversations": _CONVERSATIONS[kind], "seeds": (42,), "held_out_percent": _HELD_OUT_PERCENT[kind]}
    return Generation(**_with_defaults(defaults, settings))


def training_of(settings: TrainingSettings, kind: BaseModelKind) -> Training:
    """Training settings with the defaults for the kind of base model, the method and the optimizer."""
    defaults = dict(_TRAINING[kind])
    if settings.optimizer in WITHOUT_MASTER_COPY:
        defaults["zero_stage"] = 0
    if settings.method == "lora":
        defaults["learning_rate"] *= LORA_LEARNING_RATE
        return Training(**_with_defaults(defaults, settings) | {"lora": _lora_of(settings.lora or LoraSettings())})
    return Training(**_with_defaults(defaults, settings))


def _lora_of(settings: LoraSettings) -> Lora:
    rank = settings.rank or LORA_RANK
    return Lora(rank=rank, alpha=settings.alpha or LORA_ALPHA_PER_RANK * rank)


def evaluation_of(settings: EvaluationSettings) -> Evaluation:
    """Evaluation settings with defaults."""
    return Evaluation(**_with_defaults({"scenarios": 300, "seed": 7}, settings))


def writer_version(teacher: Provider) -> int:
    """The version of what a teacher writes, in the keys of its datasets."""
    return SCRIPTED_WRITER_VERSION if teacher.name == "scripted" else WRITER_VERSION


def resolve(
    inputs: CompileInputs,
    procedure: ProcedureSpec,
    procedure_digest: str,
    run: RunIdentity,
    *,
    store: str,
    ranks: int = 1,
    references: tuple[Reference, ...] = (),
) -> RunInput:
    """Frozen input of a run, so that its stages do not depend on the defaults of a later version."""
    kind = inputs.base_model.kind
    generation, training = generation_of(inputs.generation, kind), training_of(inputs.training, kind)
    evaluation = evaluation_of(inputs.evaluation)
    dataset = sha256([HASH_VERSION, writer_version(generation.teacher), procedure_digest, _dataset_key_fields(generation)])
    model = sha256([dataset, inputs.base_model.uri, _all_fields(training)])
    return RunInput(
        run=run,
        procedure=procedure,
        procedure_digest=procedure_digest,
        base_model=inputs.base_model,
        generation=generation,
        training=training,
        evaluation=evaluation,
        keys=ArtifactKeys(dataset=dataset, model=model, report=_report_key(model, evaluation, references)),
        store=store,
        ranks=ranks,
        references=references,
        banner=disclaimer(inputs),
    )


def _report_key(model: str, evaluation: Evaluation, references: tuple[Reference, ...] = ()) -> str:
    compared = [[each.role, each.model_digest, *(["stored"] if each.stored else [])] for each in references]
    evaluator = SCRIPTED_EVALUATOR_VERSION if evaluation.simulator.name == "scripted" else EVALUATOR_VERSION
    return sha256([evaluator, model, _all_fields(evaluation), *compared])


def keys_of_reevaluation(keys: ArtifactKeys, evaluation: Evaluation) -> ArtifactKeys:
    """The keys with the address of another report on the same model, which is compared with no other."""
    return keys.model_copy(update={"report": _report_key(keys.model, evaluation)})


def evaluate_again(frozen: RunInput, change: EvaluatedAgain) -> RunInput:
    """The input of a run that evaluates the model of the run with the input `frozen`."""
    keys = keys_of_reevaluation(frozen.keys, change.evaluation)
    changed = frozen.model_copy(update={"run": change.run, "evaluation": change.evaluation, "keys": keys, "references": ()})
    return changed.model_copy(update={"banner": disclaimer(changed)})


def _all_fields(effective: ApiModel) -> dict[str, Any]:
    """All fields, set or not, so that a default and its absence give the same key."""
    return effective.model_dump(mode="json", by_alias=True)


def _dataset_key_fields(generation: Generation) -> dict[str, Any]:
    """Fields in the dataset's key. `audit: Enforce` is left out, so that keys from before this field existed stay valid."""
    fields = _all_fields(generation)
    return fields if generation.audit == "Report" else {name: value for name, value in fields.items() if name != "audit"}


def disclaimer(inputs: CompileInputs | RunInput) -> str | None:
    """Disclaimer about the figures of a run with stand-ins; `None` if every part is real."""
    parts = []
    if inputs.generation.teacher.name == "scripted":
        parts.append("scripted teacher")
    if inputs.evaluation.simulator.name == "scripted":
        parts.append("scripted user")
    if inputs.evaluation.judge.name == "scripted":
        parts.append("rule judge")
    if inputs.base_model.kind == "scratch":
        parts.append("hand-constructed initialisation")
    if not parts:
        return None
    made_of = ", ".join(parts).capitalize()
    return f"{made_of}: scores and price show that the mechanism works; they are no evidence for the paper's claims."
