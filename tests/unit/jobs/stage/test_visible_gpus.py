"""A pod that asked for GPUs does not begin without them. Torch is a stand-in; `tests/engines/torch` asks the real one."""

import sys
from types import SimpleNamespace

import pytest

from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.visible_gpus import require_gpus


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Torch on a node with four GPUs."""
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 4, init=lambda: None)
    made = SimpleNamespace(__version__="2.13.0", version=SimpleNamespace(cuda="13.0"), cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


def too_old() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old\n(found version 12020).")


@pytest.mark.parametrize("asked", [0, 1, 4])
def test_a_pod_that_sees_its_gpus_begins(torch: SimpleNamespace, asked: int) -> None:
    require_gpus(asked)


def test_a_node_that_lacks_gpus_is_named_as_what_is_wrong_and_another_attempt_is_worth_it(torch: SimpleNamespace) -> None:
    with pytest.raises(
        InfrastructureError, match=r"asks for 8 GPUs, but torch .* sees 4; check that the node's driver supports CUDA 13"
    ):
        require_gpus(8)


def test_a_driver_that_is_too_old_is_reported_in_cuda_s_own_words(torch: SimpleNamespace) -> None:
    torch.cuda.is_available = lambda: False
    torch.cuda.init = too_old
    with pytest.raises(
        InfrastructureError, match=r"sees 0 \(The NVIDIA driver on your system is too old \(found version 12020\)\.\)"
    ):
        require_gpus(1)


def test_an_image_for_cpus_is_the_settings_fault_and_another_attempt_is_not_made(torch: SimpleNamespace) -> None:
    torch.version.cuda = None
    with pytest.raises(InvalidInputError, match=r"this image is built for CPUs; set images\.jobsGpu in the chart's values"):
        require_gpus(1)


def test_an_attempt_is_told_its_ranks_and_gpus() -> None:
    told = StageEnvironment.parse({"SUBTERRA_RANKS": "8", "SUBTERRA_GPUS": "8"})
    assert (told.ranks, told.gpus) == (8, 8)
    assert (StageEnvironment.parse({}).ranks, StageEnvironment.parse({}).gpus) == (None, 0)
