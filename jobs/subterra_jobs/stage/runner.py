"""Runs one stage the way the contract wants it: reuse what exists, work, publish, say how it ended."""

import argparse
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from subterra_api.digest import sha256
from subterra_api.job_contract.artifacts import Stage, artifact_path, lease_path
from subterra_api.job_contract.environment import BUDGET_VARIABLE, INPUT_FILE, PROGRESS_PORT, RESULT_LIMIT, TERMINATION_LOG
from subterra_api.job_contract.messages import Budget, ExitCode, RunInput, StageResult
from subterra_api.v1alpha1.scores import Scores
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.progress import ProgressReporter
from subterra_jobs.store.artifacts import ArtifactStore
from subterra_jobs.store.lease import Lease, acquire, kept

log = logging.getLogger("subterra")
TERMINATED = 128 + signal.SIGTERM
STOP_SECONDS = 22.0
"""How long calls under way may take when a stage ends early: a little more than workers take, less than kubelet allows."""
NO_CAPS = Budget()


@dataclass(frozen=True)
class StageContext:
    """What a stage works with. ``output`` is an empty directory whose content becomes the artifact."""

    input: RunInput
    store: ArtifactStore
    output: Path
    work: Path
    progress: ProgressReporter
    lease: Lease
    """Must be checked before money is spent or something is left that others read."""
    budget: Budget = NO_CAPS

    def artifact(self, stage: Stage) -> Path:
        """Local directory of what an earlier stage made."""
        return self.store.local(artifact_path(stage, self.input.keys.of(stage)))


@dataclass(frozen=True)
class Outcome:
    """What a stage tells of itself; kept beside the artifact, so that a reuse tells the same."""

    message: str
    usd: str = "0"
    tokens: int = 0
    scores: Scores | None = None


Work = Callable[[StageContext], Outcome]


def main(stage: Stage, work: Work) -> None:
    """Entry point of a stage's module: exits with the contract's code after writing the termination message."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    arguments = _arguments(stage)
    code: int
    # As process 1 of a container Python would ignore SIGTERM. Ctrl-C ends a stage in the same way.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(TERMINATED))
    try:
        result = execute(stage, work, _load(arguments.input), budget=_budget(), attach=arguments.attach)
        message, code = result.model_dump_json(by_alias=True, exclude_none=True), ExitCode.SUCCEEDED
    except StageError as error:
        log.error("%s", error)
        message, code = str(error), error.code
    except SystemExit:
        message, code = "told to stop; what is done and paid is kept", TERMINATED
    except Exception as error:
        traceback.print_exc()
        message, code = f"{type(error).__name__}: {error}", ExitCode.INTERNAL
    _say(message)
    sys.stdout.flush()
    os._exit(code)  # engines leave threads behind that would keep the pod alive


def execute(
    stage: Stage, work: Work, run_input: RunInput, *, budget: Budget = NO_CAPS, attach: bool = False, port: int = PROGRESS_PORT
) -> StageResult:
    """Does the stage's work unless its artifact exists or appears while another job works on it; ``attach`` only reads a result
    back, waits for nobody and never pays.
    """
    store, key = ArtifactStore(run_input.store), run_input.keys.of(stage)
    path = artifact_path(stage, key)
    if store.manifest(path) is not None:
        return _result(stage, key, store, reused=True)
    if attach:
        raise InfrastructureError(
            f"{path} is not in the store, so there is no result to read back; set subterra.dev/retryAt to run again"
        )
    with _served(ProgressReporter(stage), port) as progress:
        done = lambda: store.manifest(path) is not None  # noqa: E731
        lease = acquire(store, lease_path(key), run_input.run.name, done=done, tell=progress.say)
        if lease is not None:
            with kept(lease), tempfile.TemporaryDirectory(prefix=f"{stage}-") as scratch:
                output, work_dir = Path(scratch, "output"), Path(scratch, "work")
                output.mkdir()
                work_dir.mkdir()
                context = StageContext(run_input, store, output, work_dir, progress, lease, budget)
                _publish(stage, work(context), context)
    return _result(stage, key, store, reused=lease is None)


@contextmanager
def _served(progress: ProgressReporter, port: int) -> Iterator[ProgressReporter]:
    server = progress.serve(port)
    try:
        yield progress
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


def _publish(stage: Stage, outcome: Outcome, context: StageContext) -> None:
    key = context.input.keys.of(stage)
    about = {"stage": stage, "key": key, "message": outcome.message, "usd": outcome.usd, "tokens": outcome.tokens,
             "banner": context.input.banner, "scores": outcome.scores.dump() if outcome.scores else None}  # fmt: skip
    context.lease.check()
    context.store.publish(artifact_path(stage, key), context.output, about)


def _result(stage: Stage, key: str, store: ArtifactStore, *, reused: bool) -> StageResult:
    path = artifact_path(stage, key)
    manifest = store.manifest(path)
    if manifest is None:
        raise InfrastructureError(f"{path} vanished from the store; run the stage again")
    about = manifest["about"]
    return StageResult.model_validate(
        {"stage": stage, "key": key, "digest": sha256(manifest), "path": path, "reused": reused,
         "usd": "0" if reused else about["usd"], "tokens": 0 if reused else about["tokens"], "message": about["message"],
         "scores": about["scores"]}
    )  # fmt: skip


def _budget() -> Budget:
    try:
        return Budget.model_validate_json(os.environ.get(BUDGET_VARIABLE, "{}"))
    except ValidationError as error:
        raise InvalidInputError(f"{BUDGET_VARIABLE} is not a valid budget: {error}") from None


def _load(path: str) -> RunInput:
    try:
        return RunInput.model_validate_json(Path(path).read_text())
    except FileNotFoundError:
        raise InvalidInputError(f"there is no input file at {path}; pass --input FILE") from None
    except ValidationError as error:
        raise InvalidInputError(f"{path} is not a valid run input: {error}") from None


def _say(message: str) -> None:
    encoded = message.encode()[:RESULT_LIMIT]
    log.info("result: %s", message)
    target = Path(os.environ.get("SUBTERRA_TERMINATION_LOG", TERMINATION_LOG))
    try:
        target.write_bytes(encoded)
    except OSError as error:
        log.warning("the termination message could not be written to %s: %s", target, error)


def _arguments(stage: Stage) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"subterra_jobs.{stage}", description=f"The {stage} stage of a compile run.")
    parser.add_argument("--input", default=INPUT_FILE, help="the run's frozen input (default: %(default)s)")
    parser.add_argument("--attach", action="store_true", help="only read back the result of a finished stage; never pays")
    return parser.parse_args()
