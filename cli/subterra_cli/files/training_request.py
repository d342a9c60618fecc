"""The training of a compile request: its plan, or why there is none."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from subterra_api.job_contract.defaults import training_of
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.pod_settings import Quantity
from subterra_cli.errors import CommandError
from subterra_cli.files.manifests import CompileRequest
from subterra_core.node_pools import Pools, pool_problem
from subterra_core.training_fit.base_models.model_checks import config_problem
from subterra_core.training_fit.fit_refusal import pool_card
from subterra_core.training_fit.model_shape import ModelShape, UnknownShapeError, shape_from_config, shape_of
from subterra_core.training_fit.training_plan import TrainingPlan, plan_training
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage.model_directory import require_trainable


def read_training(request: CompileRequest, *, shape_file: str | None, store_size: str, pools: Pools) -> TrainingPlan | str:
    """The plan of the training, or the reason why the base model's shape is not known.

    ``shape_file``: the base model's `config.json`, or its directory, which is checked too and need not have the weights.
    ``store_size``: of the store's claim. ``pools``: of the chart's values; empty if they are not known. Raises CommandError.
    """
    if pools and (problem := pool_problem("execution.train", request.train, pools)):
        raise CommandError(problem)
    try:
        TypeAdapter(Quantity).validate_python(store_size)
    except ValidationError:
        raise CommandError(f"--store-size {store_size}: not a Kubernetes quantity; use one such as 200Gi") from None
    try:
        shape = _shape_in(shape_file, request.inputs) if shape_file else shape_of(request.inputs.base_model.uri)
    except UnknownShapeError as error:
        return str(error)
    return plan_training(request.inputs, request.train, shape, store_size, pool_card(request.train, pools))


def _shape_in(file: str, inputs: CompileInputs) -> ModelShape:
    """The shape in a base model's `config.json`. Raises CommandError for a model that would be refused after it was paid for.

    Raises UnknownShapeError for a directory of a model that can be trained, but whose parameters are not counted.
    """
    longest = training_of(inputs.training, inputs.base_model.kind).max_length
    directory = Path(file) if Path(file).is_dir() else None
    try:
        if directory:
            require_trainable(directory, inputs.base_model.uri, longest, weights=False)
        config = json.loads((directory / "config.json" if directory else Path(file)).read_text("utf-8"))
        fields = config if isinstance(config, dict) else {}
        problem = config_problem(fields, longest)
        shape = shape_from_config(fields) if problem is None else None
    except (OSError, ValueError, InvalidInputError) as error:
        if directory and isinstance(error, UnknownShapeError):
            raise
        raise CommandError(f"--model-shape {file}: {error}") from None
    if shape is None:
        raise CommandError(f"--model-shape {file}: {problem}")
    return shape
