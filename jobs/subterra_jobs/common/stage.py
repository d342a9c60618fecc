"""Runs one stage the way the contract wants it: reuse what exists, work, publish, say how it ended."""

import argparse
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from subterra_api.contract import (
    INPUT_FILE,
    PROGRESS_PORT,
    RESULT_LIMIT,
    TERMINATION_LOG,
    ExitCode,
    RunInput,
    Stage,
    StageResult,
    artifact_path,
)
from subterra_api.v1alpha1.compilerun import Scores
from subterra_jobs.common.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.common.progress import ProgressReporter
from subterra_jobs.common.store import ArtifactStore

log = logging.getLogger("subterra")


@dataclass(frozen=True)
class StageContext:
    """What a stage works with. ``output`` is an empty directory whose content becomes the artifact."""

    input: RunInput
    store: ArtifactStore
    output: Path
    work: Path
    progress: ProgressReporter

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
    try:
        run_input = _load(arguments.input)
        message = execute(stage, work, run_input, attach=arguments.attach).model_dump_json(by_alias=True, exclude_none=True)
        code = ExitCode.SUCCEEDED
    except StageError as error:
        log.error("%s", error)
        message, code = str(error), error.code
    except Exception as error:
        traceback.print_exc()
        message, code = f"{type(error).__name__}: {error}", ExitCode.INTERNAL
    _say(message)
    sys.stdout.flush()
    os._exit(code)  # engines leave threads behind that would keep the pod alive


def execute(stage: Stage, work: Work, run_input: RunInput, *, attach: bool = False, port: int = PROGRESS_PORT) -> StageResult:
    """Does the stage's work unless its artifact exists; ``attach`` only reads a result back and never pays."""
    store, path = ArtifactStore(run_input.store), artifact_path(stage, run_input.keys.of(stage))
    if (manifest := store.manifest(path)) is not None:
        return _result(stage, run_input, store, path, manifest["about"], reused=True)
    if attach:
        raise InfrastructureError(
            f"{path} is not in the store, so there is no result to read back; set subterra.dev/retryAt to run again"
        )
    progress = ProgressReporter(stage)
    server = progress.serve(port)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{stage}-") as scratch:
            output, work_dir = Path(scratch, "output"), Path(scratch, "work")
            output.mkdir()
            work_dir.mkdir()
            outcome = work(StageContext(run_input, store, output, work_dir, progress))
            about = {"stage": stage, "key": run_input.keys.of(stage), "message": outcome.message, "usd": outcome.usd,
                     "tokens": outcome.tokens, "banner": run_input.banner,
                     "scores": outcome.scores.dump() if outcome.scores else None}  # fmt: skip
            store.publish(path, output, about)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
    return _result(stage, run_input, store, path, about, reused=False)


def _result(
    stage: Stage, run_input: RunInput, store: ArtifactStore, path: str, about: dict[str, object], *, reused: bool
) -> StageResult:
    return StageResult.model_validate(
        {"stage": stage, "key": run_input.keys.of(stage), "digest": store.digest(path), "path": path, "reused": reused,
         "usd": "0" if reused else about["usd"], "tokens": 0 if reused else about["tokens"], "message": about["message"],
         "scores": about["scores"]}
    )  # fmt: skip


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
