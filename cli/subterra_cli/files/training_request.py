"""The training of a compile request: its plan, or why there is none."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from subterra_api.v1alpha1.pod_settings import Quantity
from subterra_cli.errors import CommandError
from subterra_cli.files.manifests import CompileRequest
from subterra_core.node_pools import Pools, pool_problem
from subterra_core.training_fit.fit_refusal import pool_card
from subterra_core.training_fit.model_shape import ModelShape, UnknownShapeError, shape_from_config, shape_of
from subterra_core.training_fit.training_plan import TrainingPlan, plan_training


def read_training(request: CompileRequest, *, shape_file: str | None, store_size: str, pools: Pools) -> TrainingPlan | str:
    """The plan of the training, or the reason why the base model's shape is not known.

    ``shape_file``: the base model's `config.json`. ``store_size``: of the store's claim. ``pools``: of the chart's values; empty if
    they are not known. Raises CommandError.
    """
    if pools and (problem := pool_problem("execution.train", request.train, pools)):
        raise CommandError(problem)
    try:
        TypeAdapter(Quantity).validate_python(store_size)
    except ValidationError:
        raise CommandError(f"--store-size {store_size}: not a Kubernetes quantity; use one such as 200Gi") from None
    try:
        shape = _shape_in(shape_file) if shape_file else shape_of(request.inputs.base_model.uri)
    except UnknownShapeError as error:
        return str(error)
    return plan_training(request.inputs, request.train, shape, store_size, pool_card(request.train, pools))


def _shape_in(file: str) -> ModelShape:
    try:
        config = json.loads(Path(file).read_text("utf-8"))
        return shape_from_config(config if isinstance(config, dict) else {})
    except (OSError, ValueError) as error:
        raise CommandError(f"--model-shape {file}: {error}") from None
