"""Effective settings of a run: every default, hyperparameters included."""

from typing import Any

from subterra_api.digest import HASH_VERSION, sha256
from subterra_api.job_contract.artifacts import ArtifactKeys
from subterra_api.job_contract.messages import Evaluation, Generation, RunIdentity, RunInput, Training
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compilerun import CompileInputs, EvaluationSettings, GenerationSettings, Reference, TrainingSettings
from subterra_api.v1alpha1.procedure import ProcedureSpec

WRITER_VERSION = 2
"""Raised when planner or writer make something else of the same input. It is in the addresses of datasets, in no run's name."""
EVALUATOR_VERSION = 2
"""Raised when an evaluation finds something else in the same model. It is in the addresses of reports, in no run's name."""
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
