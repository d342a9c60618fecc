"""Whether this container sees the GPUs that its pod asked for."""

from subterra_api.v1alpha1 import RETRY_AT
from subterra_jobs.errors import InfrastructureError, InvalidInputError


def require_gpus(asked: int) -> None:
    """Returns if torch sees ``asked`` GPUs or more.

    Else raises InvalidInputError for an image without CUDA, and InfrastructureError for a node or container without its GPUs, which
    another node may have. Without this check a training would go on for days on CPUs.
    """
    if not asked:
        return
    import torch

    cuda = torch.version.cuda
    if cuda is None:
        raise InvalidInputError(
            f"the pod asks for {asked} GPUs, but torch {torch.__version__} of this image is built for CPUs; set images.jobsGpu in "
            f"the chart's values to the image of images/jobs-gpu, then set the annotation {RETRY_AT} to the current time"
        )
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen < asked:
        raise InfrastructureError(
            f"the pod asks for {asked} GPUs, but torch {torch.__version__} sees {seen}{_cause(seen)}; check that the node's driver "
            f"supports CUDA {cuda} (nvidia-smi on the node) and that its container runtime is NVIDIA's"
        )


def _cause(seen: int) -> str:
    """What CUDA itself says, if it could not be initialized."""
    if seen:
        return ""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:
        return f" ({' '.join(str(error).split())[:300]})"
    return ""
