"""The train stage: turns a dataset into a model directory. Run as ``python -m subterra_jobs.train --input FILE``."""

from pathlib import Path
from typing import get_args

from subterra_api.digest import canonical, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE, work_path
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.otherwise import OtherwiseKind, answer_texts, otherwise_texts, question_percents
from subterra_core.procedure.tools import function_lines
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.model_directory import require_trainable
from subterra_jobs.stage.runner import StageContext, StageOutcome
from subterra_jobs.stage.visible_gpus import require_gpus
from subterra_jobs.train.exchange import SCRATCH, TrainingTask
from subterra_jobs.train.model.model_card import copy_license, write_card
from subterra_jobs.train.model.portable_files import make_portable
from subterra_jobs.train.source.base_model_source import base_model
from subterra_jobs.train.training import train, train_along


def work(context: StageContext) -> StageOutcome:
    """Trains into ``context.output``, resuming from the newest checkpoint of an attempt that was killed."""
    require_gpus(context.environment.gpus)
    run, progress = context.input, context.progress

    def report(step: int, planned: int, loss: float | None, held_out: float | None) -> None:
        losses = [f"loss {loss:.3f}"] if loss is not None else []
        losses += [f"held-out {held_out:.3f}"] if held_out is not None else []
        progress.update(step, planned, "steps", message=", ".join(losses) or progress.current.message)

    task = _task(context)
    summary = train(task, report, context.environment.group)
    make_portable(context.output, max_reply_tokens(run.procedure))
    write_card(context.output, run, summary)
    copy_license(Path(task.base_model), context.output)
    # A later evaluation compares this with the current procedure, to see which scenarios an edit affects.
    (context.output / PROCEDURE_FILE).write_bytes(canonical(significant_fields(run.procedure)))
    return StageOutcome(summary.message, obsolete=task.checkpoint_dir)


def assist(context: StageContext) -> None:
    """Trains along with the pod that does `work`, on another node."""
    require_gpus(context.environment.gpus)
    train_along(_task(context), context.environment.group)


def _task(context: StageContext) -> TrainingTask:
    run = context.input
    model = base_model(run.base_model.uri, context)
    if model != SCRATCH:
        require_trainable(Path(model), run.base_model.uri, run.training.max_length)
    return TrainingTask(
        dataset_dir=context.artifact("generate"),
        output_dir=context.output,
        checkpoint_dir=_checkpoints(context),
        base_model=model,
        system_prompt=run.procedure.system_prompt,
        wordings=wordings(run.procedure),
        tools=function_lines(run.procedure),
        settings=run.training,
        ranks=context.environment.ranks or run.ranks,
    )


def _checkpoints(context: StageContext) -> Path:
    """A directory on the store's volume, which outlives the pod; with object storage, checkpoints are lost with the pod."""
    if not context.store.is_local:
        if not context.environment.group.alone:
            raise InvalidInputError(
                f"{context.environment.group.count} nodes train together, but the store {context.input.store} is not a volume that "
                "all of them mount, which their checkpoints need; set execution.train.nodes to 1"
            )
        return context.work / "checkpoints"
    return Path(context.store.root, work_path(context.input.keys.model), "checkpoints")


def wordings(procedure: ProcedureSpec) -> list[str]:
    """All utterances of a procedure, with ``{{variable}}`` markers."""
    nodes = [text for node in procedure.nodes for text in node.examples]
    edges = [text for node in procedure.nodes for edge in node.next for text in edge.examples]
    edges += [text for edge in procedure.anywhere for text in edge.examples]
    otherwise = [text for kind in get_args(OtherwiseKind) for text in otherwise_texts(procedure, kind)]
    asked = [text for name in question_percents(procedure) for text in answer_texts(procedure, name)]
    asked += [text for each in procedure.questions for text in each.examples]
    return [*procedure.openers, *nodes, *edges, *otherwise, *asked]
