"""One stage of a run: has it ended, should it start, may it be tried again?"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from subterra_api.job_contract.artifacts import ArtifactKeys, Stage, artifact_path
from subterra_api.job_contract.messages import Progress, StageResult
from subterra_api.v1alpha1 import GROUP
from subterra_api.v1alpha1.compilerun import CompileRunSpec, StageStatus
from subterra_api.v1alpha1.conditions import Reason, timestamp
from subterra_operator.decide.decision import Write, moment, patch, shortened
from subterra_operator.decide.run.job_outcome import Finding, attempt_of, inspect, is_attach, pod_of
from subterra_operator.labels import STAGE_LABEL, SUSPENDED_BY_US, annotations, labels
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot, Seen
from subterra_operator.specs.stage_job import CANDIDATE, Attempt, stage_job
from subterra_operator.specs.vllm_container import Model, model_of, reference_model

ATTEMPTS = 3
"""How often a stage runs before a person is asked, when it fails for reasons that pass."""
BACKOFF_SECONDS = 20.0
LOOK_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Stages:
    """What all stages of a run share."""

    snapshot: RunSnapshot
    spec: CompileRunSpec
    recorded: Mapping[str, StageStatus]
    keys: ArtifactKeys
    settings: Settings
    now: datetime
    retry: bool = False
    """A person asked for another attempt at what failed."""

    @property
    def suspended(self) -> bool:
        return self.spec.execution.suspend

    def job(self, stage: Stage) -> Seen | None:
        """The newest Job of a stage."""
        own = [job for job in self.snapshot.jobs if labels(job).get(STAGE_LABEL) == stage]
        return max(own, key=lambda job: (attempt_of(job), is_attach(job)), default=None)


@dataclass(frozen=True)
class Step:
    """A stage after one look at it."""

    status: StageStatus
    writes: tuple[Write, ...] = ()
    result: StageResult | None = None
    recheck_after: float | None = None


@dataclass(frozen=True)
class _Stage:
    """One stage, with the names of what is looked at."""

    stages: Stages
    name: Stage
    recorded: StageStatus
    job: Seen | None = field(default=None)

    def step(self) -> Step:
        """The next step, decided in this order."""
        known, seen = self.recorded, attempt_of(self.job) if self.job else 0
        if known.state == "Succeeded":
            return Step(known)
        if self.job is not None and seen > known.attempt:  # started, and the status could not be written
            taken_over = self._taken_over(self.job)
            return replace(self, recorded=taken_over)._follow(self.job, taken_over)
        if known.state == "Failed":
            return self._start(known.attempt + 1, retries=0) if self.stages.retry else Step(known)
        if known.attempt == 0:
            return self._start(1, retries=0)
        if known.finished_at:
            return self._again(known)
        if self.job is None or seen < known.attempt:
            return self._fail(Finding("failed", None, Reason.INFRASTRUCTURE, "the Job vanished", retried=True))
        return self._follow(self.job, known)

    def _taken_over(self, job: Seen) -> StageStatus:
        """What the status would say of a Job, had it been written when the Job was made."""
        known, attempt = self.recorded, attempt_of(job)
        first = known.attempt == 0 or known.state == "Failed"  # an attempt that a person asked for counts anew
        return StageStatus(
            name=self.name, state="Running", attempt=attempt, retries=0 if first else known.retries + attempt - known.attempt,
            job_name=job["metadata"]["name"], started_at=job["metadata"]["creationTimestamp"], usd=known.usd,
        )  # fmt: skip

    def _start(self, number: int, retries: int, *, attach: bool = False) -> Step:
        if self.stages.suspended:
            return Step(self.recorded.model_copy(update={"state": "Pending", "message": "suspended"}))
        run, execution = self.stages.snapshot.run, self.stages.spec.execution
        attempt = Attempt(self.name, number, attach)
        job = stage_job(run, execution, attempt, self.stages.settings, self._models() if self.name == "evaluate" else ())
        status = StageStatus(
            name=self.name, state="Running", attempt=number, retries=retries, job_name=attempt.job_name(run["metadata"]["name"]),
            started_at=timestamp(self.stages.now), usd=self.recorded.usd,
        )  # fmt: skip
        return Step(status, (Write("create", job, guard=run),))

    def _models(self) -> tuple[Model, ...]:
        """What the evaluation plays: the candidate first."""
        spec = self.stages.spec
        candidate = model_of(spec.inputs, artifact_path("train", self.stages.keys.model), CANDIDATE)
        return (candidate, *(reference_model(each, index) for index, each in enumerate(spec.references)))

    def _again(self, known: StageStatus) -> Step:
        """An attempt failed for a reason that passes: wait a while, longer each time."""
        due = moment(known.finished_at or "") + timedelta(seconds=BACKOFF_SECONDS * 2**known.retries)
        left = (due - self.stages.now).total_seconds()
        if left > 0:
            return Step(known, recheck_after=left)
        return self._start(known.attempt + 1, retries=known.retries + 1)

    def _follow(self, job: Seen, known: StageStatus) -> Step:
        finding = inspect(job, self.stages.snapshot.pods, self.stages.now)
        if finding.state == "succeeded" and finding.result:
            return self._succeed(known, finding.result)
        if finding.state == "failed":
            return self._fail(finding)
        if finding.state == "lost" and is_attach(job):
            return self._fail(Finding("failed", None, Reason.INFRASTRUCTURE, "the result could not be read back", retried=True))
        if finding.state == "lost":
            return self._start(known.attempt, known.retries, attach=True)
        running = self._progress(job, known, finding)
        finished = bool((job.get("status") or {}).get("completionTime"))
        return Step(running, self._suspension(job), recheck_after=LOOK_AGAIN_SECONDS if finished else None)

    def _suspension(self, job: Seen) -> tuple[Write, ...]:
        """Makes the Job's suspension what the run's is; leaves one alone that somebody else suspended."""
        suspended, ours = job["spec"].get("suspend", False), SUSPENDED_BY_US in annotations(job)
        if self.stages.suspended and not suspended:
            return (patch(job, {"metadata": {"annotations": {SUSPENDED_BY_US: "true"}}, "spec": {"suspend": True}}),)
        if not self.stages.suspended and suspended and ours:
            return (patch(job, {"metadata": {"annotations": {SUSPENDED_BY_US: None}}, "spec": {"suspend": False}}),)
        return ()

    def _progress(self, job: Seen, known: StageStatus, finding: Finding) -> StageStatus:
        pod = pod_of(job, self.stages.snapshot.pods)
        heard: Progress | None = self.stages.snapshot.progress.get(pod["metadata"]["name"]) if pod else None
        update: dict[str, object] = {
            "state": "Running", "job_name": job["metadata"]["name"], "reason": None,
            "message": self._waiting(job) or finding.message or None,
            "started_at": known.started_at or job["metadata"]["creationTimestamp"],
        }  # fmt: skip
        if heard and heard.stage == self.name:
            update |= {"percent": heard.percent, "eta_seconds": heard.eta_seconds, "usd": heard.usd, "tokens": heard.tokens}
            done = f"{heard.done:,} of {heard.planned:,} {heard.unit}" if heard.planned else ""
            update["message"] = update["message"] or shortened(", ".join(filter(None, (done, heard.message)))) or None
        return known.model_copy(update=update)

    def _waiting(self, job: Seen) -> str:
        if self.stages.suspended:
            return "suspended"
        if job["spec"].get("suspend") and SUSPENDED_BY_US not in annotations(job):
            return f"waiting for admission to queue {self.stages.spec.execution.queue_name}"
        return ""

    def _succeed(self, known: StageStatus, result: StageResult) -> Step:
        expected = self.stages.keys.of(self.name)
        if result.key != expected:
            text = f"the job reports artifact {result.key} instead of {expected}; use images of one version"
            return self._fail(Finding("failed", None, Reason.INTERNAL_ERROR, text))
        status = known.model_copy(update={
            "state": "Succeeded", "percent": 100, "eta_seconds": None, "usd": result.usd, "tokens": result.tokens, "reason": None,
            "message": shortened(result.message) or None, "finished_at": timestamp(self.stages.now),
            "started_at": known.started_at or timestamp(self.stages.now),
        })  # fmt: skip
        return Step(status, result=result)

    def _fail(self, finding: Finding) -> Step:
        known = self.recorded
        attempt = max(known.attempt, attempt_of(self.job) if self.job else 0)
        again = finding.retried and known.retries + 1 < ATTEMPTS
        ending = f"attempt {attempt} failed, trying again" if again else cure(finding.reason)
        status = known.model_copy(update={
            "state": "Pending" if again else "Failed", "attempt": attempt, "reason": finding.reason, "eta_seconds": None,
            "message": shortened(f"{finding.message.rstrip('.')}; {ending}"), "finished_at": timestamp(self.stages.now),
        })  # fmt: skip
        return Step(status, recheck_after=BACKOFF_SECONDS * 2**known.retries if again else None)


def take_step(stages: Stages, name: Stage) -> Step:
    """What a stage does next."""
    recorded = stages.recorded.get(name) or StageStatus(name=name)
    return _Stage(stages, name, recorded, stages.job(name)).step()


RETRY = f"then set the annotation {GROUP}/retryAt to the time"
_CURES = {
    Reason.INVALID_INPUT: "correct the procedure or the settings; a new run starts by itself",
    Reason.BUDGET_EXCEEDED: f"what is paid is kept; raise the cap (spec.budget of the agent) or wait, {RETRY}",
    Reason.PROVIDER_BLOCKED: f"check the provider's key, credit and spend limit, {RETRY}",
    Reason.PROVIDER_UNAVAILABLE: f"wait until the provider answers, {RETRY}",
    Reason.INFRASTRUCTURE: f"look at the pod's events and the store, {RETRY}",
    Reason.INTERNAL_ERROR: f"read the pod's log and report it, {RETRY}",
    Reason.DEADLINE_EXCEEDED: f"raise the stage's activeDeadlineSeconds, {RETRY}",
}


def cure(reason: Reason) -> str:
    """What a person can do about a final failure."""
    return _CURES[reason]
