"""One stage of a run: has it ended, should it start, may it be retried?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from subterra_api.job_contract.artifacts import ArtifactKeys, Stage, artifact_path
from subterra_api.job_contract.messages import Progress, StageResult
from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.compilerun import CompileRunSpec, StageStatus
from subterra_api.v1alpha1.conditions import Reason, timestamp
from subterra_operator.decide.decision import Write, earliest, parse_time, truncate
from subterra_operator.decide.run import ray_cluster
from subterra_operator.decide.run.attempt_labels import attempt_of, is_attach, stage_of
from subterra_operator.decide.run.disruption import disruptions_after, wait_seconds
from subterra_operator.decide.run.gang import as_job
from subterra_operator.decide.run.job_outcome import POD_PENDING, JobOutcome, job_outcome, pod_of
from subterra_operator.decide.run.job_start import JobStart
from subterra_operator.decide.run.leftover_pods import leftovers
from subterra_operator.decide.run.reported_progress import is_news, progress_message, reported
from subterra_operator.decide.run.suspension import suspension
from subterra_operator.decide.trouble.trouble import EVENTS_EVERY_SECONDS, Place
from subterra_operator.labels import FAILURE_REASON, annotations_of
from subterra_operator.resources import Key, is_deleting, key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import Observed, RunSnapshot
from subterra_operator.specs.stage_env.ray_job import spread
from subterra_operator.specs.stage_env.run_caps import caps_in_words
from subterra_operator.specs.stage_job import CANDIDATE, Attempt, scheduling_deadline, stage_job
from subterra_operator.specs.vllm_container import Model, model_of, reference_model

MAX_ATTEMPTS = 3
"""Attempts at a stage that fails for passing reasons, before a person is asked."""
BACKOFF_SECONDS = 20.0
RESULT_RECHECK_SECONDS = 2.0


@dataclass(frozen=True)
class RunContext:
    """What all stages of a run share."""

    snapshot: RunSnapshot
    spec: CompileRunSpec
    recorded: Mapping[str, StageStatus]
    """Stages as the run's status has them, by name."""
    keys: ArtifactKeys
    settings: Settings
    now: datetime
    retry: bool = False
    """Whether a person asked for another attempt at what failed."""
    tools: bool = False
    """Whether the procedure has tools."""

    @property
    def suspended(self) -> bool:
        return self.spec.execution.suspend

    def newest_job(self, stage: Stage) -> Observed | None:
        """The Job of the latest attempt at a stage, or the JobSet or RayJob in the form of one."""
        own = [job for job in self.snapshot.jobs if stage_of(job) == stage]
        newest = max(own, key=lambda job: (attempt_of(job), is_attach(job)), default=None)
        if newest and newest["kind"] == "RayJob":
            return ray_cluster.as_job(newest, self.snapshot.pods)
        return as_job(newest, self.snapshot.members) if newest and newest["kind"] == "JobSet" else newest


@dataclass(frozen=True)
class StageStep:
    """What one decision changes about a stage."""

    status: StageStatus
    writes: tuple[Write, ...] = ()
    result: StageResult | None = None
    recheck_after: float | None = None
    lookups: tuple[Key, ...] = ()
    """Objects whose Events may say why the pod does not run."""
    claim_missing: bool = False
    """Whether the pod waits for the store's volume claim, which does not exist."""
    deletes: tuple[Observed, ...] = ()


@dataclass(frozen=True)
class _StagePlanner:
    """One stage and its newest Job."""

    context: RunContext
    name: Stage
    recorded: StageStatus
    job: Observed | None = None

    def step(self) -> StageStep:
        """The next step, checked in this order."""
        recorded, job_attempt = self.recorded, attempt_of(self.job) if self.job else 0
        if recorded.state == "Succeeded":
            return StageStep(recorded)
        if self.job is not None and job_attempt > recorded.attempt:  # created, but the status could not be written
            adopted = self._adopt(self.job)
            return replace(self, recorded=adopted)._follow(self.job, adopted)
        if recorded.state == "Failed":
            if self.context.retry:
                return self._start(recorded.attempt + 1, retries=0)
            return StageStep(recorded, deletes=self._given_up())
        if recorded.attempt == 0:
            return self._start(1, retries=0)
        if recorded.finished_at:
            return self._retry_after_backoff(recorded)
        if self.job is None or job_attempt < recorded.attempt:
            return self._fail(JobOutcome.disruption("the Job was deleted"))
        return self._follow(self.job, recorded)

    def _given_up(self) -> tuple[Observed, ...]:
        """The JobSet or RayJob whose pods were given up, and may start yet."""
        job = self.job
        if job is None or job["kind"] == "Job" or is_deleting(job) or FAILURE_REASON not in annotations_of(job):
            return ()
        return (job,)

    def _adopt(self, job: Observed) -> StageStatus:
        """The status as it would be, had it been written when ``job`` was created."""
        recorded, attempt = self.recorded, attempt_of(job)
        first = recorded.attempt == 0 or recorded.state == "Failed"  # retries count from the attempt that a person asked for
        disrupted = recorded.reason == Reason.DISRUPTED
        return StageStatus(
            name=self.name,
            state="Running",
            attempt=attempt,
            retries=0 if first else recorded.retries + (0 if disrupted else attempt - recorded.attempt),
            disruptions=recorded.disruptions,
            percent=recorded.percent if recorded.disruptions else 0,
            job_name=job["metadata"]["name"],
            started_at=job["metadata"]["creationTimestamp"],
            usd=recorded.usd,
        )

    def _start(self, number: int, retries: int, *, attach: bool = False) -> StageStep:
        if self.context.suspended:
            return StageStep(self.recorded.model_copy(update={"state": "Pending", "message": "suspended"}))
        run, execution = self.context.snapshot.run, self.context.spec.execution
        attempt = Attempt(self.name, number, attach)
        models = self._models() if self.name == "evaluate" else ()
        job = stage_job(run, execution, attempt, self.context.settings, models, ray_jobs=self.context.snapshot.ray_jobs)
        disruptions = self.recorded.disruptions if number > 1 and self.recorded.state == "Pending" else None
        status = StageStatus(
            name=self.name,
            state="Running",
            attempt=number,
            retries=retries,
            job_name=job["metadata"]["name"],
            disruptions=disruptions,
            percent=self.recorded.percent if disruptions else 0,
            started_at=timestamp(self.context.now),
            message=self._noted(POD_PENDING),
            usd=self.recorded.usd,
        )
        return StageStep(status, (Write("create", job, guard=run),))

    def _noted(self, message: str | None) -> str | None:
        """The message, and what the cluster does not allow of the settings."""
        if self.name != "generate":
            return message
        context = self.context
        note = spread(context.spec.execution, context.settings, ray_jobs=context.snapshot.ray_jobs).note
        return truncate("; ".join(filter(None, (message, note)))) or None

    def _models(self) -> tuple[Model, ...]:
        """The models that the evaluation compares, the candidate first."""
        spec = self.context.spec
        path = artifact_path("train", self.context.keys.model)
        candidate = model_of(spec.inputs, path, CANDIDATE, tools=self.context.tools)
        served = (reference for reference in spec.references if not reference.stored)
        return (candidate, *(reference_model(reference, index) for index, reference in enumerate(served)))

    def _retry_after_backoff(self, recorded: StageStatus) -> StageStep:
        """Another attempt after a passing failure or a disruption, after a wait that doubles each time."""
        disrupted = recorded.reason == Reason.DISRUPTED
        wait = wait_seconds(recorded.disruptions or 1) if disrupted else BACKOFF_SECONDS * 2**recorded.retries
        due = parse_time(recorded.finished_at or "") + timedelta(seconds=wait)
        left = (due - self.context.now).total_seconds()
        if left > 0:
            return StageStep(recorded, recheck_after=left)
        return self._start(recorded.attempt + 1, retries=recorded.retries + (0 if disrupted else 1))

    def _follow(self, job: Observed, recorded: StageStatus) -> StageStep:
        """The step that a Job's outcome calls for."""
        outcome = job_outcome(job, self.context.snapshot.pods, self.context.now)
        if outcome.state == "succeeded" and outcome.result:
            return self._succeed(recorded, outcome.result)
        if outcome.state == "failed":
            return self._fail(outcome)
        if outcome.state == "result_missing" and is_attach(job):
            return self._fail(JobOutcome("failed", None, Reason.INFRASTRUCTURE, "the result could not be read back", retried=True))
        if outcome.state == "result_missing":
            return self._start(recorded.attempt, recorded.retries, attach=True)
        return self._wait(job, recorded)

    def _wait(self, job: Observed, recorded: StageStatus) -> StageStep:
        """The Job goes on, unless its pod did not start in time."""
        now, start = self.context.now, self._start_of(job)
        if start.seconds_left is not None and start.seconds_left <= 0:
            text, stop = start.give_up()
            return replace(self._fail(JobOutcome("failed", None, Reason.SCHEDULING_DEADLINE_EXCEEDED, text)), writes=(stop,))
        finished, trouble = bool((job.get("status") or {}).get("completionTime")), start.trouble
        held = suspension(job, start.workload, wanted=self.context.suspended)
        recheck = (
            RESULT_RECHECK_SECONDS if finished else None,
            start.seconds_left,
            start.recheck_after,
            EVENTS_EVERY_SECONDS if held.lookups else None,
        )
        return StageStep(
            self._running_status(job, recorded, start),
            held.writes,
            recheck_after=earliest(recheck),
            lookups=(*held.lookups, *(trouble.lookups(now) if trouble else ())),
            claim_missing=trouble is not None and trouble.claim_missing,
        )

    def _start_of(self, job: Observed) -> JobStart:
        snapshot, settings = self.context.snapshot, self.context.settings
        place = Place(key_of(job), f"execution.{self.name}", settings.store.claim)
        deadline = scheduling_deadline(getattr(self.context.spec.execution, self.name))
        workload = snapshot.workloads.get(job["metadata"]["uid"])
        return JobStart(job, pod_of(job, snapshot.pods), snapshot.events, place, deadline, self.context.now, workload)

    def _running_status(self, job: Observed, recorded: StageStatus, start: JobStart) -> StageStatus:
        progress: Progress | None = self.context.snapshot.progress.get(start.pod["metadata"]["name"]) if start.pod else None
        suspended = self.context.suspended
        update: dict[str, object] = {
            "state": "Running",
            "job_name": job["metadata"]["name"],
            "reason": None if suspended else start.reason,
            "message": "suspended" if suspended else self._noted(truncate(start.message) or None),
            "started_at": recorded.started_at or job["metadata"]["creationTimestamp"],
        }
        if progress is None or progress.stage != self.name:
            return recorded.model_copy(update=update)
        said = self._noted(progress_message(progress))
        held_up = suspended or start.message
        update |= reported(progress, recorded) | {"message": update["message"] if held_up else said}
        news = is_news(update, recorded, said)
        return recorded.model_copy(update=update | ({"reported_at": timestamp(self.context.now)} if news else {}))

    def _succeed(self, recorded: StageStatus, result: StageResult) -> StageStep:
        expected = self.context.keys.of(self.name)
        if result.key != expected:
            text = f"the job reports artifact {result.key} instead of {expected}; use operator and jobs images of one version"
            return self._fail(JobOutcome("failed", None, Reason.INTERNAL_ERROR, text))
        update = {
            "state": "Succeeded",
            "percent": 100,
            "eta_seconds": None,
            "usd": result.usd,
            "tokens": result.tokens,
            "reason": None,
            "message": truncate(result.message) or None,
            "finished_at": timestamp(self.context.now),
            "started_at": recorded.started_at or timestamp(self.context.now),
        }
        return StageStep(recorded.model_copy(update=update), result=result)

    def _disrupted(self, outcome: JobOutcome, attempt: int) -> StageStep:
        """The stage waits for its next attempt; nothing has failed."""
        count = disruptions_after(self.recorded)
        wait = wait_seconds(count)
        again = f"attempt {attempt + 1} begins in {wait:.0f} s and goes on with the finished work; this counts as no failure"
        update = {
            "state": "Pending",
            "attempt": attempt,
            "disruptions": count,
            "reason": outcome.reason,
            "eta_seconds": None,
            "message": truncate(f"{outcome.message.rstrip('.')}; {again}"),
            "finished_at": timestamp(self.context.now),
        }
        return StageStep(self.recorded.model_copy(update=update), recheck_after=wait)

    def _fail(self, outcome: JobOutcome) -> StageStep:
        recorded = self.recorded
        attempt = max(recorded.attempt, attempt_of(self.job) if self.job else 0)
        if outcome.disrupted:
            return self._disrupted(outcome, attempt)
        retrying = outcome.retried and recorded.retries + 1 < MAX_ATTEMPTS
        ending = f"attempt {attempt} failed, retrying" if retrying else suggested_fix(outcome.reason)
        update = {
            "state": "Pending" if retrying else "Failed",
            "attempt": attempt,
            "reason": outcome.reason,
            "eta_seconds": None,
            "message": truncate(f"{self._failure_text(outcome)}; {ending}"),
            "finished_at": timestamp(self.context.now),
        }
        recheck = BACKOFF_SECONDS * 2**recorded.retries if retrying else None
        return StageStep(recorded.model_copy(update=update), recheck_after=recheck)

    def _failure_text(self, outcome: JobOutcome) -> str:
        """The Job's message; if it left none and reached a cap, with the caps that there are."""
        words = outcome.message.rstrip(".")
        if not outcome.wordless or outcome.reason is not Reason.BUDGET_EXCEEDED:
            return words
        return f"{words}: {caps_in_words(self.context.snapshot.run, self.context.spec.execution, self.context.settings)}"


def next_step(context: RunContext, name: Stage) -> StageStep:
    """The next step of a stage."""
    recorded = context.recorded.get(name) or StageStatus(name=name)
    step = _StagePlanner(context, name, recorded, context.newest_job(name)).step()
    left = leftovers(_ended_jobs(context.snapshot.jobs, recorded), context.snapshot.pods, context.now)
    return replace(
        step,
        writes=(*step.writes, *left.writes),
        deletes=(*step.deletes, *left.deletes),
        recheck_after=earliest((step.recheck_after, left.recheck_after)),
    )


def _ended_jobs(jobs: Sequence[Observed], recorded: StageStatus) -> list[Observed]:
    """A stage's Jobs and JobSets whose outcome is recorded."""
    latest = recorded.attempt if recorded.finished_at else recorded.attempt - 1
    return [job for job in jobs if stage_of(job) == recorded.name and attempt_of(job) <= latest]


_THEN_RETRY = f"then set the annotation {RETRY_AT} to the current time"
_FIXES = {
    Reason.INVALID_INPUT: "correct the procedure or the settings; a new run then starts by itself",
    Reason.INVALID_SPEC: f"correct what it names, or set execution.generate.workers to what one pod holds, {_THEN_RETRY}",
    Reason.BUDGET_EXCEEDED: f"paid work is kept; raise that cap or wait, {_THEN_RETRY}",
    Reason.PROVIDER_BLOCKED: f"check the provider's key, credit and spend limit, {_THEN_RETRY}",
    Reason.PROVIDER_UNAVAILABLE: f"wait until the provider answers, {_THEN_RETRY}",
    Reason.INFRASTRUCTURE: f"check the pod's events and the store, {_THEN_RETRY}",
    Reason.INTERNAL_ERROR: f"read the pod's log and report the error, {_THEN_RETRY}",
    Reason.OUT_OF_MEMORY: f"raise the stage's resources.limits.memory, {_THEN_RETRY}",
    Reason.DEADLINE_EXCEEDED: f"raise the stage's activeDeadlineSeconds, {_THEN_RETRY}",
    Reason.SCHEDULING_DEADLINE_EXCEEDED: f"or raise the stage's schedulingDeadlineSeconds, {_THEN_RETRY}",
}


def suggested_fix(reason: Reason) -> str:
    """What a person can do about a final failure."""
    return _FIXES[reason]
