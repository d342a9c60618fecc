"""The self-test around its checks: a table, an exit code, and no check that ends another."""

import json
import sys
from pathlib import Path

import pytest

from subterra_jobs.selftest import __main__ as selftest
from subterra_jobs.selftest.check_runner import RESULT_FILE, Check, CheckRequest, CheckResult, NotApplicableError, run_alone, table
from subterra_jobs.selftest.checks import CHECKS


def fails(_: CheckRequest) -> str:
    raise RuntimeError("Failed to find\nC compiler")


def cannot(_: CheckRequest) -> str:
    raise NotApplicableError("no GPU")


@pytest.mark.parametrize(
    ("check", "state", "detail", "code"),
    [(lambda _: "fine", "ok", "fine", 0), (fails, "failed", "Failed to find C compiler", 1), (cannot, "skipped", "no GPU", 0)],
)
def test_a_check_leaves_its_outcome_and_an_exit_code(tmp_path: Path, check: Check, state: str, detail: str, code: int) -> None:
    assert run_alone(check, 0, tmp_path) == code
    found = json.loads((tmp_path / RESULT_FILE).read_text())
    assert (found["state"], found["detail"]) == (state, detail)


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("skipped", 0), ("failed", 1)])
def test_one_failure_fails_the_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    results = [CheckResult("torch", "ok", 1.25, "2.13"), CheckResult("ray", state, 0.1, "words")]  # type: ignore[arg-type]
    monkeypatch.setattr(selftest, "run_checks", lambda *_: results)
    monkeypatch.setattr(sys, "argv", ["selftest"])
    assert selftest.main() == code
    assert capsys.readouterr().out == table(results)


def test_the_table_is_read_at_a_glance() -> None:
    lines = table([CheckResult("torch", "ok", 1.25, "2.13"), CheckResult("triton", "skipped", 0.1, "no GPU")]).splitlines()
    assert lines == [
        "CHECK   RESULT   SECONDS  DETAIL",
        "torch   ok           1.2  2.13",
        "triton  skipped      0.1  no GPU",
    ]


def test_a_check_that_does_not_exist_is_refused_with_those_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selftest", "tpu"])
    with pytest.raises(SystemExit):
        selftest.main()
    assert f"there is no check tpu; there are {', '.join(CHECKS)}" in capsys.readouterr().err
