"""Why a training cannot run with the GPUs that its pod asks for."""

from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.stage_pods import StagePod
from subterra_core.node_pools import GPU_RESOURCE, Pools, default_ranks, gpu_count, pool_of
from subterra_core.training_fit.gpu_cards import GpuCard, card_named, selected_card
from subterra_core.training_fit.model_shape import UnknownShapeError, shape_of
from subterra_core.training_fit.training_plan import plan_training

TRAIN = "execution.train"


def pool_card(pod: StagePod, pools: Pools) -> GpuCard | None:
    """The card of the pod's pool, by its `gpuType` or else by its node labels; `None` if it is not known."""
    pool = pool_of(pod, pools)
    if pool is None:
        return None
    return card_named(pool.gpu_type) if pool.gpu_type else selected_card(pool.node_selector)


def training_problem(inputs: CompileInputs, pod: StagePod, pools: Pools) -> str | None:
    """Why the training cannot run on what its pod asks for, with numbers and what would do; or `None`.

    ``pod`` has the resources that the container will have. Nothing is said about the memory of a card that no pool names, or of
    a model whose shape is not known.
    """
    gpus, ranks, pool = gpu_count(pod.resources), default_ranks(pod), pool_of(pod, pools)
    if pool is not None and (pool.gpu_type or pool.gpus_per_node) and not gpus:
        return f"{TRAIN}.pool: {pod.pool} has GPUs, but {TRAIN}.resources asks for none; set limits: {{{GPU_RESOURCE}: 1}} or more"
    if gpus and ranks != gpus:
        return f"{TRAIN}.ranks is {ranks}, but {TRAIN}.resources asks for {gpus} {GPU_RESOURCE}; make them equal, or remove ranks"
    card = pool_card(pod, pools)
    if not gpus or card is None:
        return None
    try:
        shape = shape_of(inputs.base_model.uri)
    except UnknownShapeError:
        return None
    misfit = plan_training(inputs, pod, shape, card=card).misfit
    return f"{TRAIN}.pool: the training {misfit}" if misfit else None
