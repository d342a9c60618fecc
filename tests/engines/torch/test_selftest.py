"""The self-test on a machine without a GPU: what needs none is done, the rest is skipped, and asking for one fails."""

import subprocess
import sys


def selftest(*words: str) -> tuple[int, dict[str, str]]:
    """Exit code, and the result of each check."""
    command = [sys.executable, "-m", "subterra_jobs.selftest", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return done.returncode, {row[0]: row[1] for row in rows}


def test_every_engine_takes_a_step_on_a_cpu() -> None:
    expected = {"packages": "ok", "gpus": "skipped", "torch": "ok", "triton": "skipped", "optimizer": "ok", "training": "ok"}
    assert selftest(*expected) == (0, expected)


def test_gpus_that_were_asked_for_and_are_not_there_fail_it() -> None:
    assert selftest("--gpus", "1", "gpus") == (1, {"gpus": "failed"})
