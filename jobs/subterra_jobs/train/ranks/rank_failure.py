"""Why a rank gave up: its exception as a typed failure, with a message that names cause and fix. Pure."""

import errno
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from subterra_api.job_contract.messages import LOST_CONTACT, ExitCode
from subterra_jobs.errors import InvalidInputError, StageError

LONGEST_CAUSE = 600
"""Characters of an exception's own words."""


@dataclass(frozen=True)
class RankFailure:
    """Why a rank gave up, with a message for the author of the run."""

    code: ExitCode
    message: str
    consequence: bool = False
    """True if another rank's failure explains this one: ranks whose neighbor is gone lose contact."""


@dataclass(frozen=True)
class Symptom:
    """A cause that exceptions of many types have in common, known by their words."""

    words: re.Pattern[str]
    code: ExitCode
    fix: str
    consequence: bool = False


def _symptom(words: str, code: ExitCode, fix: str, *, consequence: bool = False) -> Symptom:
    return Symptom(re.compile(words, re.IGNORECASE), code, fix, consequence)


DISK_FULL = _symptom(
    # The second is how torch's file writer reports a write that the disk cut short.
    r"no space left on device|unexpected pos \d+ vs \d+|PytorchStreamWriter failed|disk quota exceeded",
    ExitCode.INFRASTRUCTURE,
    "the disk is full: free some space on the artifact store, or raise store.size",
)
DAMAGED_FILE = _symptom(
    r"PytorchStreamReader|archive is corrupted|unpickling|ran out of input|error while deserializing header|"
    r"MetadataIncompleteBuffer|invalid load key",
    ExitCode.INFRASTRUCTURE,
    "a file of the base model or of a checkpoint is damaged: replace the model's file; a checkpoint is not used again",
)
SYMPTOMS = (
    DISK_FULL,
    DAMAGED_FILE,
    _symptom(
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        ExitCode.INFRASTRUCTURE,
        "the GPU has too little memory: lower training.maxLength, raise execution.train.ranks, or take a larger GPU; "
        "`subterra plan` says what fits",
    ),
    _symptom(
        r"can't allocate memory|cannot allocate memory|MemoryError|bad_alloc|DefaultCPUAllocator",
        ExitCode.INFRASTRUCTURE,
        "the pod has too little memory: raise the train pod's limits.memory, or lower training.maxLength",
    ),
    _symptom(
        r"\[PEFT:PeftType",
        ExitCode.INVALID_INPUT,
        "adapters cannot be trained in this base model: remove training.method: lora, or name another baseModel.uri",
    ),
    _symptom(
        r"gated repo|repository not found|RepositoryNotFound|GatedRepo|is not a valid model identifier|"
        r"401 client error|403 client error|RevisionNotFound",
        ExitCode.INVALID_INPUT,
        "the hub has no such model, or does not give it to this pod: correct baseModel.uri, or put the model on the store's "
        "volume and use pvc://",
    ),
    _symptom(
        r"couldn't connect to .?https://huggingface|huggingface\.co.*(timed? ?out|resolve|refused|unreachable)|"
        r"LocalEntryNotFound|OfflineModeIsEnabled|Max retries exceeded|5\d\d server error",
        ExitCode.INFRASTRUCTURE,
        "the hub cannot be reached: check egress rules and proxy of the train pod, or put the model on the store's "
        "volume and use pvc://",
    ),
    _symptom(
        r"NCCL (error|operation|communicator)|ncclUnhandled|watchdog caught collective|connection (closed|reset|refused) by peer|"
        r"DistBackendError|DistNetworkError|DistStoreError|socket timeout|gloo.*(timed ?out|connect)",
        ExitCode.INFRASTRUCTURE,
        f"{LOST_CONTACT}: mostly one was killed, or waited too long for another; see the log of the pod",
        consequence=True,
    ),
)
"""In the order in which they are looked for."""


def require_finite(heldout_loss: float | None, step: int) -> None:
    """Raises InvalidInputError for a loss that is no number any more: no later step would make the weights numbers again."""
    if heldout_loss is not None and not math.isfinite(heldout_loss):
        raise InvalidInputError(
            f"the training has diverged: the held-out loss is {heldout_loss} at step {step}; lower training.learningRate"
        )


def failure_of(error: BaseException, rank: int) -> RankFailure:
    """The failure that an exception is, by its type and by the words of it and of its causes."""
    chain = list(_causes(error))
    for each in chain:
        if isinstance(each, StageError):
            return RankFailure(each.code, str(each))
    words = "\n".join(f"{type(each).__name__}: {each}" for each in chain)
    cause = f"rank {rank}: {_shown(chain[-1])}"
    symptom = _symptom_of(words, chain)
    if symptom is None:
        return RankFailure(ExitCode.INTERNAL, f"the training failed. {cause}")
    return RankFailure(symptom.code, f"{symptom.fix}. {cause}", symptom.consequence)


def symptom_in(text: str) -> Symptom | None:
    """The first of `SYMPTOMS` that a text shows."""
    return next((symptom for symptom in SYMPTOMS if symptom.words.search(text)), None)


def _symptom_of(words: str, chain: list[BaseException]) -> Symptom | None:
    if any(isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT) for each in chain):
        return DISK_FULL
    return symptom_in(words)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _shown(error: BaseException) -> str:
    """Type and words of an exception, in one line, and where it came from."""
    words = " ".join(str(error).split())
    shown = words if len(words) <= LONGEST_CAUSE else f"{words[:LONGEST_CAUSE]}…"
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno})" if place is not None else ""
    return f"{type(error).__name__}: {shown}{where}"


def decisive(failures: list[RankFailure]) -> RankFailure | None:
    """The failure that explains the others; of several the first."""
    return min(failures, key=lambda failure: failure.consequence, default=None)
