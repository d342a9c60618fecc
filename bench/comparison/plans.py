"""The arms of the command: models that are given or compiled right here, and the base model's two."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.comparison.arms import ArmPlan, baseline_arm, compiled_arm
from bench.comparison.compiling import BASE, CompiledModel, Dataset, compile_model, is_of_procedure, run_of, write_training_data
from bench.comparison.progress import Progress

from subterra_api.v1alpha1.compilerun import BaseModelKind
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph

COMPILED, IN_CONTEXT, ORCHESTRATOR, SCRATCH = ARMS = ("compiled", "in-context", "orchestrator", "scratch")
Datasets = Mapping[BaseModelKind, Dataset]


def write_datasets(procedure: ProcedureSpec, folder: Path) -> Datasets:
    """The training data of both kinds of base model, to train on and to keep the customers apart from."""
    kinds: tuple[BaseModelKind, ...] = ("bundled", "scratch")
    return {kind: write_training_data(run_of(procedure, kind), folder / kind) for kind in kinds}


def make_plans(options: argparse.Namespace, graph: Graph, datasets: Datasets, models: Path, progress: Progress) -> list[ArmPlan]:
    """The chosen arms in the order of the tables. ``models`` has the models of the jobs image. Raises StageError."""

    def model(given: Path | None, seconds: float | None, kind: BaseModelKind) -> CompiledModel:
        if given is not None:
            return CompiledModel(given, seconds)
        return compile_model(run_of(graph.spec, kind), datasets[kind], models, options.folder / "models", progress)

    makers: Mapping[str, Callable[[], ArmPlan]] = {
        COMPILED: lambda: compiled_arm(COMPILED, graph, model(options.compiled, options.compiled_seconds, "bundled"), "bundled"),
        IN_CONTEXT: lambda: baseline_arm(IN_CONTEXT, graph, models / BASE),
        ORCHESTRATOR: lambda: baseline_arm(ORCHESTRATOR, graph, models / BASE),
        SCRATCH: lambda: compiled_arm(SCRATCH, graph, model(options.scratch, options.scratch_seconds, "scratch"), "scratch"),
    }
    return [make() for name, make in makers.items() if name in options.arms]


def warnings(options: argparse.Namespace, procedure: ProcedureSpec) -> Iterator[str]:
    """Lines about given models that may not fit the comparison."""
    for name, directory in ((COMPILED, options.compiled), (SCRATCH, options.scratch)):
        if directory is not None and not is_of_procedure(directory, procedure):
            yield f"- {name}: nothing in the given directory says that it was compiled from exactly this procedure"
