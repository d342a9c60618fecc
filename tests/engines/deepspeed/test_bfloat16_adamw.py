"""AdamW without a float32 copy of the weights takes torchao's steps, moves every weight, and can be stopped between any two."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torchao.optim.adam import single_param_adam
from torchao.optim.subclass_8bit import OptimState8bit

from subterra_core.training_fit.memory_estimate import OPTIMIZER_BYTES, PIECE
from subterra_jobs.train.optimizers import bfloat16_adamw
from subterra_jobs.train.optimizers.bfloat16_adamw import Bfloat16AdamW, state_bytes

RATE, BETAS, DECAY = 2e-5, (0.9, 0.95), 0.01


def weights(dtype: torch.dtype, rows: int = 64) -> torch.nn.Parameter:
    """A matrix as large models have them, and 8-bit states for it."""
    return torch.nn.Parameter((torch.randn(rows, 128, generator=torch.Generator().manual_seed(1)) * 0.02).to(dtype))


def gradient(step: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(100 + step))


def optimizer(*parameters: Tensor, rate: float = RATE, eight_bits: bool = True, seed: int = 7) -> Bfloat16AdamW:
    return Bfloat16AdamW(parameters, rate, BETAS, DECAY, eight_bits=eight_bits, seed=seed)


def take_steps(updating: Bfloat16AdamW, parameter: Tensor, first: int, last: int) -> None:
    for step in range(first, last + 1):
        parameter.grad = gradient(step, parameter)
        updating.step()


@pytest.mark.parametrize("piece", [PIECE, 1024, 768])
def test_a_step_is_that_of_torchao_also_piece_by_piece(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16_adamw, "PIECE", piece)
    found, expected = weights(torch.float32), weights(torch.float32).detach()
    take_steps(ours := optimizer(found, rate=0.01), found, 1, 5)
    states: list[Any] = [OptimState8bit.zeros(expected.shape, signed, 256) for signed in (True, False)]
    for step in range(1, 6):
        rate, number = torch.tensor(0.01), torch.tensor(float(step))
        single_param_adam(expected, gradient(step, expected), number, *states, None, rate, *BETAS, DECAY, 1e-8, True, False)
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-6)
    for name, state in zip(("mean", "square"), states, strict=True):
        differing = (ours.state[found][name] != state.codes).float().mean()
        assert differing < 0.001, "ties of rounding may fall to the other side"


@pytest.mark.parametrize("eight_bits", [True, False])
def test_weights_move_where_rounding_to_the_nearest_would_leave_most_of_them(eight_bits: bool) -> None:
    """A first step of Adam is as long as the learning rate, in the direction of the gradient's sign."""
    parameter, steps = weights(torch.bfloat16, rows=4096), 30
    before = parameter.detach().float()
    stuck = ((before - RATE).bfloat16() == before.bfloat16()).float().mean()
    assert 0.65 < stuck < 0.75
    updating = optimizer(parameter, eight_bits=eight_bits)
    for _ in range(steps):
        parameter.grad = torch.ones_like(parameter, dtype=torch.float32)
        updating.step()
    moved = before - parameter.detach().float()
    assert float(moved.mean()) == pytest.approx(steps * RATE, rel=0.02)
    assert float((moved != 0).float().mean()) > 0.9


@pytest.mark.parametrize(("eight_bits", "name"), [(True, "adamw8bit"), (False, "adamwbf16")])
def test_states_take_the_bytes_that_the_estimate_counts(eight_bits: bool, name: Any) -> None:
    parameter = weights(torch.bfloat16, rows=2048)
    take_steps(updating := optimizer(parameter, eight_bits=eight_bits), parameter, 1, 1)
    assert parameter.grad is not None and parameter.grad.dtype == torch.float32
    assert state_bytes(updating) / parameter.numel() == pytest.approx(OPTIMIZER_BYTES[name], rel=0.01)
    assert bfloat16_adamw.PIECE == PIECE


@pytest.mark.parametrize("eight_bits", [True, False])
@pytest.mark.parametrize("rows", [64, 3], ids=["8 bits", "too small for 8 bits"])
def test_a_training_that_was_saved_and_loaded_goes_on_bit_for_bit(eight_bits: bool, rows: int) -> None:
    whole, broken = weights(torch.bfloat16, rows), weights(torch.bfloat16, rows)
    take_steps(optimizer(whole, eight_bits=eight_bits), whole, 1, 6)
    take_steps(first := optimizer(broken, eight_bits=eight_bits), broken, 1, 3)
    torch.save(first.state_dict(), file := io.BytesIO())
    file.seek(0)
    second = optimizer(broken, eight_bits=eight_bits)
    second.load_state_dict(torch.load(file, map_location=lambda storage, _: storage, weights_only=True))  # as DeepSpeed does
    torch.rand(1)  # whatever was drawn meanwhile
    take_steps(second, broken, 4, 6)
    assert torch.equal(whole, broken)


def test_ranks_with_the_same_gradients_keep_the_same_weights_and_their_own_random_numbers() -> None:
    ranks = [weights(torch.bfloat16) for _ in range(2)]
    for number, parameter in enumerate(ranks):
        torch.manual_seed(number)
        drawn = torch.rand(1)
        torch.manual_seed(number)
        take_steps(optimizer(parameter), parameter, 1, 4)
        assert torch.equal(torch.rand(1), drawn), "the step used up random numbers of the training"
    assert torch.equal(*ranks)
    other = weights(torch.bfloat16)
    take_steps(optimizer(other, seed=8), other, 1, 4)
    assert not torch.equal(ranks[0], other)


def test_gradients_of_many_micro_batches_are_summed_in_float32() -> None:
    parameter = weights(torch.bfloat16)
    optimizer(parameter)
    micros = (torch.rand(48, *parameter.shape, generator=torch.Generator().manual_seed(2)) + 0.5).bfloat16()
    for micro in micros:
        (parameter * micro).sum().backward()
    exact = micros.double().sum(0)
    assert parameter.grad is not None
    assert float(((parameter.grad - exact).abs() / exact).max()) < 1e-6
