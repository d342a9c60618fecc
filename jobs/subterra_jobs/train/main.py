"""The train stage: the dataset in, a model directory out. Run as ``python -m subterra_jobs.train --input FILE``."""

import shutil
import tempfile
from pathlib import Path

import fsspec

from subterra_api.digest import canonical, meaning
from subterra_api.job_contract.artifacts import PROCEDURE_FILE, work_path
from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.runner import Outcome, StageContext
from subterra_jobs.train.training import train


def work(context: StageContext) -> Outcome:
    """Trains into ``context.output``; goes on from the newest checkpoint of an attempt that was killed."""
    run, progress = context.input, context.progress
    checkpoints = _checkpoints(context)

    def report(step: int, planned: int, loss: float | None, held_out: float | None) -> None:
        words = [f"loss {loss:.3f}"] if loss is not None else []
        words += [f"held-out {held_out:.3f}"] if held_out is not None else []
        progress.update(step, planned, "steps", message=", ".join(words) or progress.current.message)

    summary = train(
        context.artifact("generate"), context.output, checkpoints, base_model_path(run.base_model.uri), run.procedure.system_prompt,
        wordings(run.procedure), run.training, report, ranks=run.ranks,
    )  # fmt: skip
    # A model knows what it was compiled from: a later evaluation tells by it what an edit touches.
    (context.output / PROCEDURE_FILE).write_bytes(canonical(meaning(run.procedure)))
    shutil.rmtree(checkpoints, ignore_errors=True)
    loss = f"{summary.heldout_loss:.4f}" if summary.heldout_loss is not None else "unknown"
    return Outcome(f"{summary.steps:,} steps, best at {summary.best_step:,} with held-out loss {loss}")


def _checkpoints(context: StageContext) -> Path:
    """Where checkpoints outlive the pod: on the store's volume; object storage keeps none, an attempt then starts anew."""
    if not context.store.is_local:
        return context.work / "checkpoints"
    return Path(context.store.root, work_path(context.input.keys.model), "checkpoints")


def wordings(procedure: ProcedureSpec) -> list[str]:
    """Everything the procedure says, with ``{{variable}}`` markers."""
    nodes = [text for node in procedure.nodes for text in node.examples]
    edges = [text for node in procedure.nodes for edge in node.next for text in edge.examples]
    return [*procedure.openers, *nodes, *edges]


def base_model_path(uri: str) -> str:
    """What transformers loads: ``scratch``, a hub name, or a local directory (fetched when it is in object storage)."""
    scheme, _, rest = uri.partition("://")
    if uri == "scratch":
        return uri
    if scheme == "hf":
        return rest
    if scheme == "pvc":
        path = Path(STORE_MOUNT, rest.lstrip("/"))
        if not path.is_dir():
            raise InvalidInputError(f"there is no model directory {rest} on the store's volume; correct baseModel.uri")
        return str(path)
    target = tempfile.mkdtemp(prefix="base-model-")
    files, root = fsspec.url_to_fs(uri)
    files.get(f"{root.rstrip('/')}/", f"{target}/", recursive=True)
    return target
