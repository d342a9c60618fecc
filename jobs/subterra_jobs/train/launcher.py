"""Runs the ranks of a training under torchrun, in a subprocess, and tells how they fare.

The image needs Python and the `train` extra only: no compiler, no MPI, no home directory; /tmp must be writable.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.train.exchange import Exchange, Failure, Job, OnProgress

log = logging.getLogger("subterra")
POLL_SECONDS = 0.5
GRACE_SECONDS = 20.0
"""How long the ranks may take to end after SIGTERM; a pod has 30 seconds."""
LOG_TAIL = 2000
"""Characters of the log in an error message, which must fit into a termination message."""


class TrainingCrashedError(StageError):
    """The ranks ended without a result; the message ends with the tail of their log."""


class TrainingInterruptedError(InfrastructureError):
    """The stage was told to stop; the next attempt goes on from the newest checkpoint."""


def launch(job: Job, work: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Trains to the end and gives the figures of the result.

    Raises TrainingInterruptedError after SIGTERM, the ranks' own StageError, or TrainingCrashedError.
    """
    exchange, log_file = Exchange(work), work / "ranks.log"
    exchange.write_job(job)
    with log_file.open("w") as output:
        process = subprocess.Popen(
            command(job.ranks, free_port(), work), env=environment(os.environ, work), stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    with _passing_on_sigterm(process) as told_to_stop:
        try:
            _follow(process, exchange, on_progress)
        finally:
            _end(process)
    result = exchange.result()
    if result is not None:
        return result
    if told_to_stop.is_set():
        raise TrainingInterruptedError("the training was told to stop; the next attempt goes on from its newest checkpoint")
    raise _explain(exchange.failure(), process.returncode, log_file)


def command(ranks: int, port: int, work: Path) -> list[str]:
    """The torchrun call, also for one rank: without it DeepSpeed looks for MPI."""
    return [
        sys.executable, "-m", "subterra_jobs.train.torchrun", "--nproc_per_node", str(ranks), "--nnodes", "1",
        "--rdzv_backend", "static", "--master_addr", "127.0.0.1", "--master_port", str(port),
        "-m", "subterra_jobs.train.rank", str(work),
    ]  # fmt: skip


def environment(base: Mapping[str, str], work: Path) -> dict[str, str]:
    """Environment of the ranks: works for a user without a name or a home, on a read-only root file system."""
    removed = ("ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_MIXED_PRECISION", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    found = {name: value for name, value in base.items() if name not in removed}
    caches = {
        "HF_HOME": "huggingface",
        "TORCH_EXTENSIONS_DIR": "extensions",
        "TRITON_CACHE_DIR": "triton",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
    }
    defaults = {"USER": "subterra", "LOGNAME": "subterra"} | {name: str(work / folder) for name, folder in caches.items()}
    fixed = {
        # Two spinning threads on a busy core are slower than one; the second core is for a second rank.
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        # Compiling Muon's kernels takes longer than running them.
        "TORCHDYNAMO_DISABLE": "1",
        "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    home = found.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        fixed["HOME"] = str(work)
    return defaults | found | fixed


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _passing_on_sigterm(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Hands SIGTERM to the ranks; the event says whether it came. Signals can only be caught in the main thread."""
    told_to_stop = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        told_to_stop.set()
        process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield told_to_stop
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield told_to_stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(process: subprocess.Popen[bytes], exchange: Exchange, on_progress: OnProgress) -> None:
    """Passes progress on until the ranks end, or have finished all work and hang in their exit."""
    seen, finished_at = 0, None
    while True:
        ended = process.poll() is not None
        for figures in exchange.progress(seen):
            on_progress(*figures)
            seen += 1
        if finished_at is None and exchange.result() is not None:
            finished_at = time.monotonic()
        if ended or (finished_at is not None and time.monotonic() - finished_at > GRACE_SECONDS):
            return
        time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Makes sure that no rank is left."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the ranks did not end within %.0f seconds of SIGTERM and are killed", GRACE_SECONDS)
            process.kill()  # the ranks die with torchrun
            process.wait()


def _explain(failure: Failure | None, code: int, log_file: Path) -> StageError:
    """The typed error for ranks that ended without a result."""
    if failure is not None:
        kinds = {kind.code: kind for kind in (InvalidInputError, InfrastructureError)}
        return kinds.get(failure.code, StageError)(failure.message)
    tail = log_file.read_text(errors="replace")[-LOG_TAIL:]
    if "Signal 9 (SIGKILL)" in tail or "CUDA out of memory" in tail or "No space left on device" in tail:
        return InfrastructureError(
            f"the training ran out of memory or disk, or was killed; give the train pod more of it. Log: {tail}"
        )
    return TrainingCrashedError(f"the training ended with code {code} and no result. Log: {tail}")
