"""The time of a stage's last report: written with real progress, and with nothing else."""

from datetime import timedelta
from typing import Any

from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
HALF = Progress(stage="generate", percent=50, done=10, planned=20, unit="conversations", eta_seconds=60)


def status_after(before: Object, progress: Progress | None, later: float, **pod: Any) -> Object:
    """The status of a run that generates, when its pod reports this."""
    run = make.run(before)
    job = make.stored(stage_job(run, ExecutionSettings(), Attempt("generate", 1, False), SETTINGS))
    found = make.pod_of(job, **(pod or {"running": {}}))
    reports = {found["metadata"]["name"]: progress} if progress else {}
    snapshot = RunSnapshot(run, make.procedure(), make.frozen(run), (job,), (found,), reports)
    status = decide_run(snapshot, SETTINGS, make.NOW + timedelta(seconds=later)).status
    assert status is not None
    return status


def reported_at(status: Object) -> str | None:
    found: str | None = status["stages"][0].get("reportedAt")
    return found


STARTED: Object = {"stages": [{"name": "generate", "state": "Running", "attempt": 1}]}


def test_progress_is_written_with_its_time_and_the_same_again_writes_nothing() -> None:
    first = status_after(STARTED, HALF, 0)
    assert reported_at(first) == f"{make.NOW:%Y-%m-%dT%H:%M:%SZ}"
    assert status_after(first, HALF, 600) == first
    more = status_after(first, HALF.model_copy(update={"done": 11}), 600)
    assert reported_at(more) == f"{make.NOW + timedelta(seconds=600):%Y-%m-%dT%H:%M:%SZ}", "the message has other figures"


def test_a_pod_that_is_not_heard_leaves_the_time_as_it_was() -> None:
    first = status_after(STARTED, HALF, 0)
    assert reported_at(status_after(first, None, 600)) == reported_at(first)
    assert reported_at(status_after(STARTED, None, 600)) is None


def test_what_disturbs_a_pod_is_no_progress() -> None:
    first = status_after(STARTED, HALF, 0)
    waiting = status_after(first, HALF, 600, waiting={"reason": "ImagePullBackOff"})
    assert "cannot be pulled" in waiting["stages"][0]["message"]
    assert reported_at(waiting) == reported_at(first)


def test_another_attempt_begins_without_a_report() -> None:
    failed = {"name": "generate", "state": "Failed", "attempt": 1, "reason": "Infrastructure", "reportedAt": make.CREATED}
    run = make.run({"stages": [failed]}, annotations={"subterra.dev/retry-at": "now"})
    status = decide_run(RunSnapshot(run, make.procedure(), make.frozen(run)), SETTINGS, make.NOW).status
    assert status and status["stages"][0]["attempt"] == 2 and reported_at(status) is None
