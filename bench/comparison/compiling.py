"""Models compiled right here: the files of the generate stage, then the train stage's training, with the defaults of a run."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.comparison.progress import Progress
from bench.training.conversations import write_dataset

from subterra_api.digest import canonical, procedure_digest, short, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity, RunInput
from subterra_api.v1alpha1.compilerun import BUNDLED_SCHEME, BaseModelKind, CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.stage.cpu_limit import available_cpus
from subterra_jobs.train.exchange import SCRATCH, TrainingTask
from subterra_jobs.train.main import wordings
from subterra_jobs.train.source.base_model_source import bundled_model
from subterra_jobs.train.training import train

BASE = "SmolLM2-135M-Instruct"
IDENTITY = RunIdentity(name="comparison", namespace="bench", uid="comparison")
_URIS: dict[BaseModelKind, str] = {"bundled": f"{BUNDLED_SCHEME}{BASE}", "scratch": "scratch"}
_SECONDS_FILE = "compile-seconds"


@dataclass(frozen=True)
class Dataset:
    """The training data of a kind of base model, and the seconds that it took to write."""

    directory: Path
    seconds: float


@dataclass(frozen=True)
class CompiledModel:
    """A model directory, and the seconds from the procedure to it; `None` when they are unknown."""

    directory: Path
    seconds: float | None


def run_of(procedure: ProcedureSpec, kind: BaseModelKind) -> RunInput:
    """What the operator would give the stages for this kind of base model, with a rank for each core as in the examples."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "comparison"}, "baseModel": {"uri": _URIS[kind]}})
    ranks = 1 if kind == "scratch" else available_cpus()
    return resolve(inputs, procedure, procedure_digest(procedure), IDENTITY, store="file:///nowhere", ranks=ranks)


def write_training_data(run: RunInput, directory: Path) -> Dataset:
    """The run's dataset, written with the scripted teacher."""
    began = time.monotonic()
    write_dataset(run.procedure, run.generation, directory)
    return Dataset(directory, time.monotonic() - began)


def compile_model(run: RunInput, dataset: Dataset, bundled: Path, folder: Path, progress: Progress) -> CompiledModel:
    """The run's model in ``folder``, by its key: that of an earlier call, or else a new one. Raises StageError."""
    target = folder / short(run.keys.model, 12)
    seconds = target / _SECONDS_FILE
    if not seconds.is_file():
        progress.say(f"compiling from {run.base_model.uri} into {target}; give a finished model's directory to skip this")
        began = time.monotonic()
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _train(run, dataset.directory, bundled, partial, progress)
        (partial / PROCEDURE_FILE).write_bytes(canonical(significant_fields(run.procedure)))
        (partial / _SECONDS_FILE).write_text(f"{dataset.seconds + time.monotonic() - began:.0f}")
        partial.rename(target)
    return CompiledModel(target, float(seconds.read_text()))


def _train(run: RunInput, dataset: Path, bundled: Path, output: Path, progress: Progress) -> None:
    def report(step: int, planned: int, loss: float | None, held_out: float | None) -> None:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in (("loss", loss), ("held-out", held_out)) if value is not None)
        progress.step(f"training from {run.base_model.uri}: step {step} of {planned}{losses and f', {losses}'}")

    with tempfile.TemporaryDirectory(prefix="comparison-") as work:
        task = TrainingTask(
            dataset_dir=dataset,
            output_dir=output,
            checkpoint_dir=Path(work),
            base_model=uri if (uri := run.base_model.uri) == SCRATCH else str(bundled_model(uri, bundled)),
            system_prompt=run.procedure.system_prompt,
            wordings=wordings(run.procedure),
            settings=run.training,
            ranks=run.ranks,
        )
        train(task, report)


def is_of_procedure(model: Path, procedure: ProcedureSpec) -> bool:
    """True if the model directory was compiled from exactly this procedure, as far as the directory tells."""
    file = model / PROCEDURE_FILE
    return file.is_file() and file.read_bytes() == canonical(significant_fields(procedure))
