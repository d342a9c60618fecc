"""Run as ``python -m subterra_jobs.selftest [--gpus N] [CHECK...]``: prints a table, exits with 1 if a check fails."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from subterra_api.job_contract.environment import GPUS_VARIABLE
from subterra_jobs.selftest.check_runner import run_alone, run_checks, table
from subterra_jobs.selftest.checks import CHECKS


def main() -> int:
    """The exit code: 0 if every check that applies to this machine passed."""
    arguments = _arguments()
    if arguments.alone:
        [name] = arguments.checks
        return run_alone(CHECKS[name], arguments.gpus, Path(arguments.work))
    with tempfile.TemporaryDirectory(prefix="selftest-") as work:
        results = run_checks(arguments.checks or list(CHECKS), arguments.gpus, Path(work))
    sys.stdout.write(table(results))
    return 1 if any(result.state == "failed" for result in results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="subterra_jobs.selftest", description="One small step of every engine in this image.")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"default: all of {', '.join(CHECKS)}")
    asked = int(os.environ.get(GPUS_VARIABLE) or 0)
    parser.add_argument("--gpus", type=int, default=asked, help="GPUs that must be visible (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.checks if name not in CHECKS]:
        parser.error(f"there is no check {unknown[0]}; there are {', '.join(CHECKS)}")
    return arguments


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # engines leave threads behind
