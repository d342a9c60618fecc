"""Runs one stage: reuse its artifact or make and publish it, then report the result as termination message and exit code."""

import argparse
import errno
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from subterra_api.digest import sha256
from subterra_api.job_contract.artifacts import Stage, artifact_path, lease_path
from subterra_api.job_contract.defaults import evaluate_again
from subterra_api.job_contract.environment import EVALUATED_AGAIN_VARIABLE, INPUT_FILE, PROGRESS_PORT, RESULT_LIMIT
from subterra_api.job_contract.messages import EvaluatedAgain, ExitCode, RunInput, StageResult
from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.scores import Scores
from subterra_core.training_fit.training_plan import gigabytes
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.cancellation import TERMINATED, exit_on_signals
from subterra_jobs.stage.environment import StageEnvironment, termination_log
from subterra_jobs.stage.pod_group import PodGroup
from subterra_jobs.stage.progress import ProgressReporter
from subterra_jobs.stage.span import Span
from subterra_jobs.stage.tracing import end_stage, stage_span, start_tracing, tracing
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import Lease, acquire, keep_renewed

log = logging.getLogger("subterra")


@dataclass(frozen=True)
class StageContext:
    """What a stage works with. `output` is an empty directory whose content becomes the artifact."""

    input: RunInput
    environment: StageEnvironment
    store: ArtifactStore
    output: Path
    work: Path
    progress: ProgressReporter
    lease: Lease
    """Must be checked before money is spent or anything is written that others read."""

    def artifact(self, stage: Stage) -> Path:
        """Local directory of an earlier stage's artifact."""
        return self.store.local(artifact_path(stage, self.input.keys.of(stage)))


@dataclass(frozen=True)
class StageOutcome:
    """A stage's own account of its result; stored with the artifact, so that a reuse reports the same."""

    message: str
    usd: str = "0"
    tokens: int = 0
    scores: Scores | None = None
    obsolete: Path | None = None
    """A directory that is removed once the artifact is published, and not before: until then another attempt needs it."""


Work = Callable[[StageContext], StageOutcome]


Assist = Callable[[StageContext], None]


def main(stage: Stage, work: Work, assist: Assist | None = None) -> None:
    """Entry point of a stage's module: writes the termination message and exits with the contract's code.

    With ``assist`` several pods may work together: all but the first do that instead.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    arguments = _arguments(stage)
    code: int
    span: Span | None = None
    result: StageResult | None = None
    exit_on_signals()
    try:
        run_input = read_input(arguments.input, os.environ)
        span = _begin_span(stage, run_input)
        if assist is not None and PodGroup.parse(os.environ).rank:
            message = execute_part(stage, assist, run_input, StageEnvironment.parse(os.environ))
        else:
            result = execute(stage, work, run_input, attach=arguments.attach)
            message = termination_message(result)
        code = ExitCode.SUCCEEDED
    except StageError as error:
        log.error("%s", error)
        message, code = str(error), error.code
    except SystemExit:
        message, code = "stopped by a signal; finished work and paid responses are kept", TERMINATED
    except Exception as error:
        traceback.print_exc()
        message, code = unexpected_failure(error), ExitCode.INTERNAL
    _write_termination_message(message)
    sys.stdout.flush()
    if span is not None:
        with suppress(SystemExit):  # what a signal may cut short here is spans alone
            end_stage(span, code, message, result)
            tracing().flush()
    os._exit(code)  # engines leave threads behind that would keep the pod alive


def end_at_once(error: StageError) -> NoReturn:
    """Ends the process with that result, from any thread: for when the main thread waits for what will not come."""
    log.error("%s", error)
    _write_termination_message(str(error))
    os._exit(error.code)


def _begin_span(stage: Stage, run_input: RunInput) -> Span:
    span = stage_span(stage, run_input.run, os.environ)
    start_tracing(run_input.run, os.environ).children_of(span)
    return span


_TERMINAL_CODE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def unexpected_failure(error: Exception) -> str:
    """The last line of an exception without a type of ours, for a status: engines put their workers' tracebacks into messages."""
    lines = [line.strip() for line in _TERMINAL_CODE.sub("", str(error)).splitlines() if line.strip()]
    name = type(error).__name__
    if not lines:
        return name
    return lines[-1] if len(lines) > 1 and "Traceback" in str(error) else f"{name}: {' '.join(lines)}"


def execute(
    stage: Stage,
    work: Work,
    run_input: RunInput,
    *,
    environment: StageEnvironment | None = None,
    attach: bool = False,
    port: int = PROGRESS_PORT,
) -> StageResult:
    """Does the stage's work unless its artifact exists, or appears while another job works on it.

    With `attach` it only reads a result back: it never waits and never pays. Without `environment` the process's own is parsed.
    """
    store, key = ArtifactStore(run_input.store), run_input.keys.of(stage)
    path = artifact_path(stage, key)
    if store.manifest(path) is not None:
        return _result(stage, key, store, reused=True)
    if attach:
        raise InfrastructureError(
            f"{path} is not in the store, so there is no result to read back; set the annotation {RETRY_AT} to run again"
        )
    environment = environment or StageEnvironment.parse(os.environ)
    with _serving(ProgressReporter(stage), port) as progress:
        done = lambda: store.manifest(path) is not None  # noqa: E731
        lease = acquire(store, lease_path(key), run_input.run.name, done=done, report=progress.set_message)
        if lease is not None:
            with keep_renewed(lease), tempfile.TemporaryDirectory(prefix=f"{stage}-") as scratch:
                output, work_dir = Path(scratch, "output"), Path(scratch, "work")
                output.mkdir()
                work_dir.mkdir()
                context = StageContext(run_input, environment, store, output, work_dir, progress, lease)
                _publish(stage, work(context), context)
    return _result(stage, key, store, reused=lease is None)


def execute_part(stage: Stage, assist: Assist, run_input: RunInput, environment: StageEnvironment) -> str:
    """Works along with the first pod of a group, which holds the stage lease and publishes; returns the termination message."""
    store, key, group = ArtifactStore(run_input.store), run_input.keys.of(stage), environment.group
    path = artifact_path(stage, key)
    if not group.wait_for_first(lambda: store.manifest(path) is not None):
        return f"{path} is in the store, so there was nothing to do for node {group.rank}"
    with tempfile.TemporaryDirectory(prefix=f"{stage}-") as scratch:
        output, work_dir = Path(scratch, "output"), Path(scratch, "work")
        output.mkdir()
        work_dir.mkdir()
        not_held = Lease(store, lease_path(key), 0, run_input.run.name, "")  # its check fails: this pod may publish nothing
        assist(StageContext(run_input, environment, store, output, work_dir, ProgressReporter(stage), not_held))
    return f"node {group.rank} of {group.count} has done its part; node 0 reports the result"


@contextmanager
def _serving(progress: ProgressReporter, port: int) -> Iterator[ProgressReporter]:
    server = progress.serve(port)
    try:
        yield progress
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


def _publish(stage: Stage, outcome: StageOutcome, context: StageContext) -> None:
    key = context.input.keys.of(stage)
    about = {
        "stage": stage,
        "key": key,
        "message": outcome.message,
        "usd": outcome.usd,
        "tokens": outcome.tokens,
        "banner": context.input.banner,
        "scores": outcome.scores.dump() if outcome.scores else None,
    }
    context.lease.check()
    try:
        context.store.publish(artifact_path(stage, key), context.output, about)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InfrastructureError(_full_store(context)) from error
    if outcome.obsolete is not None:
        shutil.rmtree(outcome.obsolete, ignore_errors=True)


def _full_store(context: StageContext) -> str:
    needed = sum(file.stat().st_size for file in context.output.rglob("*") if file.is_file())
    free = f", and {gigabytes(shutil.disk_usage(context.store.root).free)} are free" if context.store.is_local else ""
    return (
        f"the result of {gigabytes(needed)} does not fit into the artifact store{free}; free some space or raise store.size, "
        f"then set the annotation {RETRY_AT}. What was computed is kept"
    )


def _result(stage: Stage, key: str, store: ArtifactStore, *, reused: bool) -> StageResult:
    path = artifact_path(stage, key)
    manifest = store.manifest(path)
    if manifest is None:
        raise InfrastructureError(f"{path} vanished from the store; run the stage again")
    about = manifest["about"]
    spent = {"usd": "0", "tokens": 0} if reused else {"usd": about["usd"], "tokens": about["tokens"]}
    identity = {"stage": stage, "key": key, "digest": sha256(manifest), "path": path}
    return StageResult.model_validate(
        {**identity, **spent, "reused": reused, "message": about["message"], "scores": about["scores"]}
    )


def read_input(path: str, variables: Mapping[str, str]) -> RunInput:
    """The run's frozen input; if another run's model is evaluated, that run's input with what the environment changes."""
    try:
        frozen = RunInput.model_validate_json(Path(path).read_text())
    except FileNotFoundError:
        raise InvalidInputError(f"there is no input file at {path}; pass --input FILE") from None
    except ValidationError as error:
        raise InvalidInputError(f"{path} is not a valid run input: {error}") from None
    change = variables.get(EVALUATED_AGAIN_VARIABLE)
    if not change:
        return frozen
    try:
        return evaluate_again(frozen, EvaluatedAgain.model_validate_json(change))
    except ValidationError as error:
        text = f"{EVALUATED_AGAIN_VARIABLE} is invalid ({error}); use operator and jobs images of one version"
        raise InvalidInputError(text) from None


def termination_message(result: StageResult) -> str:
    """The result as JSON that fits a termination message; if need be, with the end of its text cut off."""
    text = result.model_dump_json(by_alias=True, exclude_none=True)
    over = len(text.encode()) - RESULT_LIMIT
    if over <= 0:
        return text
    # A character takes one byte or more, and the ellipsis three.
    kept = result.message[: max(0, len(result.message) - over - 3)]
    return result.model_copy(update={"message": f"{kept}…"}).model_dump_json(by_alias=True, exclude_none=True)


def _write_termination_message(message: str) -> None:
    log.info("result: %s", message)
    path = termination_log(os.environ)
    try:
        path.write_bytes(message.encode()[:RESULT_LIMIT])
    except OSError as error:
        log.warning("the termination message could not be written to %s: %s", path, error)


def _arguments(stage: Stage) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"subterra_jobs.{stage}", description=f"The {stage} stage of a compile run.")
    parser.add_argument("--input", default=INPUT_FILE, help="the run's frozen input (default: %(default)s)")
    parser.add_argument("--attach", action="store_true", help="only read back the result of a finished stage; never pays")
    return parser.parse_args()
