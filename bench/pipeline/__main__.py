"""``python -m bench.pipeline``: what a procedure becomes without a cluster, in figures.

Runs the three stages one after another as the operator starts them, each a process with the run's input file; the evaluation has a
real vLLM server. Prints one line of JSON for each procedure; the store with model and report is kept.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.pipeline.memory import PeakMemory
from tests.tools.models import bundled_models

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import MODELS_VARIABLE, TERMINATION_LOG_VARIABLE, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import BUNDLED_SCHEME, CompileInputs, GatePolicy
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Interval, RobustnessScore, Scores
from subterra_cli.errors import InvalidFileError
from subterra_cli.files.load_procedure import from_file
from subterra_core.gate.verdict import judge
from subterra_jobs.stage.cpu_limit import available_cpus
from subterra_testkit.servers.vllm_server import vllm_server

BASE = f"{BUNDLED_SCHEME}SmolLM2-135M-Instruct"


class StageFailedError(Exception):
    """A stage did not succeed; the message says why."""


def main() -> int:
    """0 when every procedure was compiled and evaluated, whatever the verdict."""
    options = _parser().parse_args()
    for file in options.procedures:
        try:
            procedure = from_file(str(file)).spec  # with the procedures that it calls, as the operator has it
            figures = run_pipeline(procedure, file.parent.name or file.stem, options)
        except (InvalidFileError, StageFailedError) as error:
            sys.stderr.write(f"{file}: {error}\n")
            return 1
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
    return 0


def run_pipeline(procedure: ProcedureSpec, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one procedure: seconds of each stage, scores, robustness and verdict. Raises StageFailedError."""
    folder = options.folder.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    run = _run_input(procedure, name, folder, options)
    (folder / "input.json").write_text(run.model_dump_json(by_alias=True))
    seconds: dict[str, int] = {}
    results: dict[str, StageResult] = {}
    models = {MODELS_VARIABLE: str(bundled_models())}
    with PeakMemory() as memory:
        for stage in ("generate", "train"):
            results[stage], seconds[stage] = _run_stage(stage, folder, models)
        began = time.monotonic()
        trained, tools = folder / "store" / results["train"].path, bool(procedure.tools)
        with vllm_server(trained, "candidate", folder / "vllm", None, kind="bundled", tools=tools) as url:
            seconds["load"] = round(time.monotonic() - began)
            results["evaluate"], seconds["evaluate"] = _run_stage("evaluate", folder, models | {VLLM_VARIABLE: url})
    scores = results["evaluate"].scores
    assert scores
    stages = {"seconds": seconds, "peakGiB": round(memory.gib, 1), "dataset": results["generate"].message}
    return {"procedure": name, **stages, "train": results["train"].message, **_figures(scores)}


def _run_input(procedure: ProcedureSpec, name: str, folder: Path, options: argparse.Namespace) -> RunInput:
    generation = {} if options.conversations is None else {"conversations": options.conversations}
    inputs = CompileInputs.model_validate(
        {
            "procedureRef": {"name": name},
            "baseModel": {"uri": BASE},
            "generation": generation,
            "evaluation": {"scenarios": options.scenarios},
            "training": options.training,
        }
    )
    identity = RunIdentity(name=name, namespace="bench", uid=name)
    store = (folder / "store").as_uri()
    return resolve(inputs, procedure, procedure_digest(procedure), identity, store=store, ranks=options.ranks)


def _run_stage(stage: str, folder: Path, variables: Mapping[str, str]) -> tuple[StageResult, int]:
    """A stage's result and its seconds; its log is ``folder``/stage.log. Raises StageFailedError."""
    began, log, message = time.monotonic(), folder / f"{stage}.log", folder / f"{stage}.termination"
    sys.stderr.write(f"{folder.name}: {stage}, log in {log}\n")
    command = [sys.executable, "-m", f"subterra_jobs.{stage}", "--input", str(folder / "input.json")]
    environment = os.environ | variables | {TERMINATION_LOG_VARIABLE: str(message)}
    with log.open("wb") as out:
        done = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise StageFailedError(f"{stage} ended with code {done.returncode}: {message.read_text() if message.exists() else log}")
    return StageResult.model_validate_json(message.read_text()), round(time.monotonic() - began)


def _figures(scores: Scores) -> dict[str, Any]:
    verdict = judge(scores, GatePolicy())
    return {
        "n": scores.scenarios,
        "conformance": _share(scores.conformance),
        "slotsExact": scores.slots_exact,
        "fabrication": scores.fabrication and f"{scores.fabrication.hits} of {scores.fabrication.of}",
        "robustness": {each.kind: _counted(each) for each in scores.robustness or ()},
        **({"tools": scores.tools.dump()} if scores.tools else {}),
        "verdict": verdict.result,
        "reasons": verdict.reasons,
    }


def _share(found: Interval) -> str:
    return f"{found.mean:.1%} ({found.low:.1%} to {found.high:.1%})"


def _counted(found: RobustnessScore) -> str:
    return f"{found.hits} of {found.of}" if found.of else "not tested"


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m bench.pipeline", description=str(__doc__).partition("\n")[0])
    found.add_argument("procedures", type=Path, nargs="+", help="Procedure manifests, such as examples/zoom/procedure.yaml")
    found.add_argument("--conversations", type=int, help="conversations to train on (default: the base model's)")
    found.add_argument("--scenarios", type=int, default=200, help="scenarios of the evaluation (default: %(default)s)")
    found.add_argument("--training", type=json.loads, default={}, help="spec.training as JSON, such as '{\"batchSize\": 4}'")
    found.add_argument("--ranks", type=int, default=available_cpus(), help="ranks of the training (default: one for each core)")
    found.add_argument("--folder", type=Path, default=Path("out/pipeline"), help="store, logs (default: %(default)s)")
    return found


if __name__ == "__main__":
    sys.exit(main())
