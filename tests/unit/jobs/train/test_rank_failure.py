"""A rank's exception becomes a message with cause and fix, whatever engine raised it."""

import errno
import pickle
import re
from dataclasses import replace

import pytest

from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.ranks.rank_failure import LONGEST_CAUSE, RankFailure, decisive, failure_of, require_finite
from subterra_jobs.train.training import TrainingSummary

DISK, MEMORY, GPU = r"disk is full.*store\.size", r"limits\.memory", r"GPU has too little memory.*subterra plan"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The exception as a rank catches it."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "fix"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.INFRASTRUCTURE, DISK),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 2624 vs 2516"), ExitCode.INFRASTRUCTURE, DISK),
        (
            RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory"),
            ExitCode.INFRASTRUCTURE,
            "damaged",
        ),
        (pickle.UnpicklingError("invalid load key, 'x'."), ExitCode.INFRASTRUCTURE, "damaged"),
        (EOFError("Ran out of input"), ExitCode.INFRASTRUCTURE, "damaged"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has 139.80 GiB"), ExitCode.INFRASTRUCTURE, GPU),
        (MemoryError(), ExitCode.INFRASTRUCTURE, MEMORY),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            ExitCode.INFRASTRUCTURE,
            MEMORY,
        ),
        (OSError("You are trying to access a gated repo."), ExitCode.INVALID_INPUT, r"baseModel\.uri"),
        (OSError("qwen is not a local folder and is not a valid model identifier"), ExitCode.INVALID_INPUT, r"baseModel\.uri"),
        (OSError("We couldn't connect to 'https://huggingface.co' to load the files"), ExitCode.INFRASTRUCTURE, "egress"),
        (RuntimeError("[Rank 3] Watchdog caught collective operation timeout"), ExitCode.INFRASTRUCTURE, "lost contact"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), ExitCode.INFRASTRUCTURE, "lost contact"),
        (ValueError("tensors are made of cheese"), ExitCode.INTERNAL, "ValueError: tensors are made of cheese"),
    ],
)
def test_every_known_cause_has_its_code_and_its_fix(error: BaseException, code: ExitCode, fix: str) -> None:
    failure = failure_of(raised(error), rank=3)
    assert failure.code == code
    assert re.search(fix, failure.message)
    assert "rank 3" in failure.message and type(error).__name__ in failure.message


def test_an_error_of_ours_keeps_its_message_even_as_a_cause() -> None:
    failure = failure_of(raised(RuntimeError("worker died"), InvalidInputError("no such dataset")), 0)
    assert failure == RankFailure(ExitCode.INVALID_INPUT, "no such dataset")


def test_the_first_cause_is_named_with_its_place() -> None:
    message = failure_of(raised(RuntimeError("engine failed"), KeyError("exp_avg")), 1).message
    assert "KeyError: 'exp_avg'" in message
    assert ".py:" in failure_of(raised(ValueError("x")), 1).message


def test_a_long_exception_leaves_room_in_a_termination_message() -> None:
    assert len(failure_of(raised(ValueError("y" * 100_000)), 0).message) < LONGEST_CAUSE + 300


def test_lost_contact_explains_nothing_when_another_rank_says_why() -> None:
    lost = failure_of(raised(RuntimeError("Connection closed by peer")), 0)
    full = failure_of(raised(OSError(errno.ENOSPC, "full")), 1)
    assert lost.consequence and not full.consequence
    assert decisive([lost, full]) is full
    assert decisive([lost]) is lost
    assert decisive([]) is None


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_training_that_has_diverged_names_step_and_learning_rate(loss: float) -> None:
    require_finite(2.5, 20)
    require_finite(None, 20)
    with pytest.raises(InvalidInputError, match=rf"is {loss} at step 40; lower training\.learningRate") as diverged:
        require_finite(loss, 40)
    assert failure_of(diverged.value, 1).code is ExitCode.INVALID_INPUT


def test_conversations_that_were_too_long_are_counted_in_the_message() -> None:
    summary = TrainingSummary(94, "bfloat16", 80, 0.5, 0.25, 123456, 0, 60.0, left_out=3)
    assert summary.message.endswith("held-out loss 0.2500, 3 conversations longer than training.maxLength left out")
    assert "left out" not in replace(summary, left_out=0).message
