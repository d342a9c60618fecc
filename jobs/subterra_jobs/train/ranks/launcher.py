"""Runs the ranks of a training under torchrun, in a subprocess, and reports their progress.

The image needs Python and the `train` extra only: no compiler, no MPI, no home directory; /tmp must be writable.
"""

import logging
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subterra_api.job_contract.environment import TRAIN_GRACE_SECONDS
from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.cancellation import on_sigterm
from subterra_jobs.stage.cpu_limit import available_cpus
from subterra_jobs.stage.pod_group import ALONE, PodGroup
from subterra_jobs.train.exchange import SCRATCH, Exchange, OnProgress, TrainingTask
from subterra_jobs.train.ranks.rank_failure import RankFailure, symptom_in

log = logging.getLogger("subterra")
POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0
"""Time for the ranks to exit after SIGTERM, and after all their work."""
CHECKPOINT_SECONDS = TRAIN_GRACE_SECONDS - GRACE_SECONDS - 10.0
"""Time for the current step and a checkpoint when the stage gets SIGTERM; the rest is for the ranks' end and for kubelet."""
_REMOVED_VARIABLES = ("ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_MIXED_PRECISION", "RANK", "WORLD_SIZE", "LOCAL_RANK")
_CACHE_FOLDERS = {
    "HF_HOME": "huggingface",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
_FIXED_VARIABLES = {
    # Threads that spin while they wait make each other slower on a busy machine.
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    # Compiling Muon's kernels takes longer than running them.
    "TORCHDYNAMO_DISABLE": "1",
    # The stage has downloaded the base model; libraries ask the hub about local directories too.
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}
_ALONE_VARIABLES = {"GLOO_SOCKET_IFNAME": "lo"}
JOIN_SECONDS = 86400
"""How long the ranks of node 0 wait for those of other pods, which may wait for a node. The operator gives them up earlier."""
LOG_TAIL = 2000
"""Characters of the log in an error message, which has to fit into a termination message."""
_KILLED = re.compile(r"Signal 9 \(SIGKILL\)|exitcode *: *(-9|137)")
_TORCHRUN = re.compile(r"torch/distributed/(run|launcher|elastic)|torch\.distributed\.(run|launcher|elastic)")
"""Lines that torchrun adds when a rank has failed; they never say why."""


class TrainingCrashedError(StageError):
    """The ranks exited without a result; the message ends with the tail of their log."""


class TrainingInterruptedError(InfrastructureError):
    """The training was stopped by SIGTERM; the next attempt resumes from the newest checkpoint."""


def launch(task: TrainingTask, work: Path, on_progress: OnProgress, group: PodGroup = ALONE) -> dict[str, Any]:
    """Runs this pod's ranks to the end and returns the figures of the result, which only the first pod of a group has.

    Raises TrainingInterruptedError after SIGTERM, the ranks' own StageError, or TrainingCrashedError.
    """
    exchange, log_file = Exchange(work), work / "ranks.log"
    exchange.write_task(task)
    process = _start_ranks(task, work, log_file, group)
    output = RanksOutput(log_file)
    with on_sigterm(exchange.request_stop) as stopped:
        try:
            _follow(process, exchange, on_progress, output, stopped)
        finally:
            _end(process)
            output.copy()
    result = exchange.result()
    if result is not None:
        return result
    if stopped.is_set():
        raise TrainingInterruptedError("training stopped by SIGTERM; the next attempt resumes from the newest checkpoint")
    raise _error_for(exchange.failure(), process.returncode, log_file)


class RanksOutput:
    """What the ranks print, for the log of the pod."""

    def __init__(self, file: Path) -> None:
        self._file, self._copied = file, 0

    def copy(self) -> None:
        """Writes what is new to stderr."""
        with self._file.open("rb") as output:
            output.seek(self._copied)
            new = output.read()
        self._copied += len(new)
        sys.stderr.write(new.decode(errors="replace"))
        sys.stderr.flush()


def torchrun_command(ranks: int, group: PodGroup, work: Path) -> list[str]:
    """The torchrun call for the ranks of this pod, also for one: without torchrun DeepSpeed looks for MPI."""
    options = {
        "--nproc_per_node": str(ranks),
        "--nnodes": str(group.count),
        "--node_rank": str(group.rank),
        "--rdzv_backend": "static",
        "--rdzv_conf": f"timeout={JOIN_SECONDS}",
        "--master_addr": group.host,
        "--master_port": str(group.port or free_port()),
    }
    arguments = [argument for option in options.items() for argument in option]
    return [
        sys.executable,
        "-m",
        "subterra_jobs.train.ranks.torchrun",
        *arguments,
        "-m",
        "subterra_jobs.train.ranks.rank",
        str(work),
    ]


def threads_per_rank(task: TrainingTask, cpus: int, pods: int = 1) -> int:
    """One for the tiny model, whose matrices are too small to share; otherwise a pod's CPUs, divided among its ranks."""
    return 1 if task.base_model == SCRATCH else max(1, cpus // (task.ranks // pods))


def rank_environment(base: Mapping[str, str], work: Path, threads: int = 1, *, alone: bool = True) -> dict[str, str]:
    """Environment of the ranks; works for a user without name or home, on a read-only root file system.

    Unless the pod is ``alone``, ranks talk over the interface that gloo chooses or that the pod's variables name.
    """
    inherited = {name: value for name, value in base.items() if name not in _REMOVED_VARIABLES}
    caches = {name: str(work / folder) for name, folder in _CACHE_FOLDERS.items()}
    home = inherited.get("HOME", "")
    writable_home = {} if home and os.access(home, os.W_OK) else {"HOME": str(work)}
    fixed = (_FIXED_VARIABLES | (_ALONE_VARIABLES if alone else {})) | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    return {"USER": "subterra", "LOGNAME": "subterra"} | caches | inherited | fixed | writable_home


def _start_ranks(task: TrainingTask, work: Path, log_file: Path, group: PodGroup) -> subprocess.Popen[bytes]:
    threads = threads_per_rank(task, available_cpus(), group.count)
    with log_file.open("w") as output:
        return subprocess.Popen(
            torchrun_command(task.ranks // group.count, group, work),
            env=rank_environment(os.environ, work, threads, alone=group.alone),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _follow(
    process: subprocess.Popen[bytes], exchange: Exchange, on_progress: OnProgress, output: RanksOutput, stopped: threading.Event
) -> None:
    """Passes progress on until the ranks exit, hang in their exit after all work is done, or had their time to save their state."""
    reported, leaving_at = 0, math.inf
    while True:
        ended = process.poll() is not None
        output.copy()
        for line in exchange.progress(reported):
            on_progress(*line)
            reported += 1
        now = time.monotonic()
        if exchange.result() is not None:
            leaving_at = min(leaving_at, now + GRACE_SECONDS)
        elif stopped.is_set():
            # Before the first step there is nothing to save.
            leaving_at = min(leaving_at, now + (CHECKPOINT_SECONDS if reported else 0))
        if ended or now >= leaving_at:
            return
        time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends all ranks that are still running."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the ranks did not exit within %.0f s of SIGTERM and are killed", GRACE_SECONDS)
            process.kill()  # the ranks die with torchrun
            process.wait()


def _error_for(failure: RankFailure | None, code: int, log_file: Path) -> StageError:
    """The typed error for ranks that exited without a result: what they left, else what their log shows."""
    if failure is not None and not failure.consequence:
        return _stage_error(failure.code, failure.message)
    text = log_file.read_text(errors="replace")
    tail = "\n".join(line for line in text.splitlines() if not _TORCHRUN.search(line))[-LOG_TAIL:]
    if _KILLED.search(text):
        return InfrastructureError(
            "a rank was killed (exit code 137), mostly because the pod has too little memory: raise the train pod's limits.memory, "
            f"or lower training.maxLength. Log: {tail}"
        )
    if failure is not None:
        return _stage_error(failure.code, failure.message)
    symptom = symptom_in(tail)
    if symptom is not None:
        return _stage_error(symptom.code, f"{symptom.fix}. Log: {tail}")
    return TrainingCrashedError(f"the training exited with code {code} and no result. Log: {tail}")


def _stage_error(code: ExitCode, message: str) -> StageError:
    kinds = {kind.code: kind for kind in (InvalidInputError, InfrastructureError)}
    return kinds.get(code, StageError)(message)
