"""The model with traffic is pushed to a registry by a Job: which Job to make, and how far it is. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from subterra_api.job_contract.model_transfer import ExportRequest, ExportResult, Provenance
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import AgentVersion, CompiledAgentSpec, CompiledAgentStatus
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.model_registry import TAG, Exported, ExportSettings
from subterra_operator.decide.agent.run_history import status_of
from subterra_operator.decide.decision import ConditionBuilder, Write, seconds_since
from subterra_operator.decide.run.job_outcome import GRACE_SECONDS, true_condition
from subterra_operator.decide.run.leftover_pods import leftovers
from subterra_operator.decide.trouble.pod_trouble import pod_trouble
from subterra_operator.decide.trouble.refused_pod import job_without_pod
from subterra_operator.decide.trouble.trouble import Place, Trouble, last_words
from subterra_operator.resources import Key, controller_uid, key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.registry_pods import export_job, export_name

GROUP = "export"


@dataclass(frozen=True)
class Export:
    """What to write for it, and what the status says."""

    exported: Exported | None
    conditions: tuple[Condition, ...] = ()
    writes: tuple[Write, ...] = ()
    recheck_after: float | None = None
    lookups: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Exporter:
    """The exports of an agent at one moment; ``before`` is its recorded status."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    before: CompiledAgentStatus
    settings: Settings
    make: ConditionBuilder

    def export(self, serving: AgentVersion | None) -> Export:
        """The step towards ``serving`` in the registry that the spec names, if it names one."""
        wanted = self.spec.promotion.export
        if wanted is None:
            return Export(self.before.exported)
        request = self._request(wanted, serving)
        if isinstance(request, str):
            return self._export(False, Reason.NOTHING_TO_EXPORT, request)
        if (known := self.before.exported) and _is_that(known, wanted, request.provenance.model):
            left = leftovers(self._jobs(wanted, request.provenance.model), self.snapshot.export_pods, self.make.now)
            ends = tuple(replace(write, group=GROUP) for write in left.writes)
            parts: dict[str, Any] = {"writes": ends, "recheck_after": left.recheck_after}
            return self._export(True, Reason.EXPORTED, f"the model of run {known.run} is {known.uri}", **parts)
        job = next(iter(self._jobs(wanted, request.provenance.model)), None)
        if job is None:
            made = export_job(self.snapshot.agent, wanted, request, self.spec.serving, self.settings)
            text = f"the model of run {request.provenance.run} is pushed to {request.to}"
            return self._export(None, Reason.EXPORTING, text, writes=(Write("create", made, group=GROUP),))
        return self._follow(job, wanted, request)

    def _export(self, status: bool | None, reason: Reason, text: str, **parts: Any) -> Export:
        return Export(self.before.exported, (self.make(Type.EXPORTED, status, reason, text),), **parts)

    def _request(self, wanted: ExportSettings, serving: AgentVersion | None) -> ExportRequest | str:
        """The model with traffic, or why there is none to push."""
        if self.spec.model is not None:
            return "spec.model is served, which is in a registry or store already; set promotion.export where it is compiled"
        run = self.snapshot.run(serving.run if serving else None)
        if run is None or serving is None:
            return "no model that a run of this agent made has traffic yet"
        status, name = status_of(run), run["metadata"]["name"]
        made, inputs = status.artifacts, CompileInputs.model_validate(run["spec"]["inputs"])
        if not (made.dataset and made.model and made.model_path and status.verdict and status.procedure_digest):
            return f"run {name} has no verdict, so there is nothing to say about its model"
        provenance = Provenance(
            agent=self.snapshot.agent["metadata"]["name"],
            namespace=self.snapshot.agent["metadata"]["namespace"],
            procedure=inputs.procedure_ref.name,
            procedure_digest=status.procedure_digest,
            run=name,
            base_model=inputs.base_model.uri,
            dataset=made.dataset,
            model=made.model,
            report=made.report,
            verdict=status.verdict,
        )
        return ExportRequest(
            to=wanted.to if re.search(rf":{TAG}$", wanted.to.rpartition("/")[2]) else f"{wanted.to}:{name}",
            provenance=provenance,
            model_path=made.model_path,
            dataset_path=made.dataset_path,
            report_path=made.report_path,
            sign=wanted.signing_secret is not None,
        )

    def _jobs(self, wanted: ExportSettings, model: str) -> list[Observed]:
        """The Job that exports a model, if there is one."""
        name = export_name(self.snapshot.agent["metadata"]["name"], wanted, model)
        return [job for job in self.snapshot.exports if job["metadata"]["name"] == name]

    def _follow(self, job: Observed, wanted: ExportSettings, request: ExportRequest) -> Export:
        """How far the Job is, whose pods say so."""
        pods = [pod for pod in self.snapshot.export_pods if controller_uid(pod) == job["metadata"]["uid"]]
        if result := _result(pods):
            secret = wanted.signing_secret.name if wanted.signing_secret else None
            run, model = request.provenance.run, request.provenance.model
            done = Exported(uri=result.uri, model_digest=model, run=run, to=wanted.to, signed_with=secret)
            text = f"the model of run {run} is {result.uri}"
            return Export(done, (self.make(Type.EXPORTED, True, Reason.EXPORTED, text),))
        name, failures = job["metadata"]["name"], _failures(pods)
        words = f"; attempt {len(failures)} failed: {failures[-1]}" if failures else ""
        if ended := true_condition(job, "Failed") or true_condition(job, "Complete"):
            left = GRACE_SECONDS - seconds_since(ended.get("lastTransitionTime"), self.make.now)
            if left > 0 and not failures:
                return self._export(None, Reason.EXPORTING, f"Job {name} has ended", recheck_after=left)
            cause = failures[-1] if failures else f"Job {name} ended, and no pod says how"
            fix = f"correct that, then run kubectl delete job {name}, which is made again; it is in any case after a day"
            return self._export(False, Reason.EXPORT_FAILED, f"{request.to}: {cause}; {fix}")
        trouble = self._trouble(job, pods)
        why = f": {trouble.text}" if trouble and trouble.lasts(self.make.now) else ""
        text = f"the model of run {request.provenance.run} is pushed to {request.to}{words}{why}"
        recheck = trouble.recheck_after(self.make.now) if trouble else None
        lookups = trouble.lookups(self.make.now) if trouble else ()
        return self._export(None, Reason.EXPORTING, text, recheck_after=recheck, lookups=lookups)

    def _trouble(self, job: Observed, pods: Sequence[Observed]) -> Trouble | None:
        place = Place(key_of(job), "spec.promotion.export", self.settings.store.claim)
        if not pods:
            return job_without_pod(job, self.snapshot.events, place)
        found = (pod_trouble(pod, self.snapshot.events, place, self.make.now) for pod in pods)
        return next((trouble for trouble in found if trouble), None)


def _is_that(known: Exported, wanted: ExportSettings, model: str) -> bool:
    """Whether this model was exported as the spec wants it now."""
    secret = wanted.signing_secret.name if wanted.signing_secret else None
    return (known.model_digest, known.to, known.signed_with) == (model, wanted.to, secret)


def _ended(pod: Observed) -> Mapping[str, Any]:
    """The terminated state of the pod's container; empty while it runs."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((status.get("state", {}).get("terminated") or {} for status in statuses if status["name"] == "main"), {})


def _result(pods: Sequence[Observed]) -> ExportResult | None:
    for pod in pods:
        if (ended := _ended(pod)) and ended["exitCode"] == 0:
            try:
                return ExportResult.model_validate_json(ended.get("message") or "")
            except ValidationError:
                continue
    return None


def _failures(pods: Sequence[Observed]) -> list[str]:
    """Last words of the pods that failed, the newest last."""
    ended = [(state.get("finishedAt", ""), state) for pod in pods if (state := _ended(pod)) and state["exitCode"] != 0]
    ordered = [state for _, state in sorted(ended, key=lambda pair: pair[0])]
    return [last_words(state.get("message")) or f"exit code {state['exitCode']}" for state in ordered]
