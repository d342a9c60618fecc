"""Rollout: start the wanted version, move traffic once all its replicas are ready, keep the old one warm for a while.

With `promotion.canary` it first gets a share of the requests that come through a gateway (`traffic_share`).
With `promotion.rollout: Recreate` the old version stops first, and starts again if the wanted one does not become ready.

The active version is the one in the Service's selector, whatever the status says.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus
from subterra_api.v1alpha1.conditions import Reason, timestamp
from subterra_api.v1alpha1.gateway import Canary, CanarySettings
from subterra_operator.decide.agent.traffic_objects import policies, routing
from subterra_operator.decide.agent.traffic_share import NO_ROUTES, begin, gateway_problem, go_on
from subterra_operator.decide.decision import Write, earliest, patch, seconds_since, truncate
from subterra_operator.decide.trouble.pod_trouble import pod_trouble
from subterra_operator.decide.trouble.refused_pod import deployment_without_pod
from subterra_operator.decide.trouble.trouble import Place, Trouble
from subterra_operator.labels import (
    CANARY_ABORTED,
    FAILURE_REASON,
    MODEL_DIGEST,
    RESTART_AT,
    SERVING_SINCE,
    STARTED_AT,
    STOPPED_AT,
    VERSION_LABEL,
    annotation,
    annotation_patch,
    annotations_of,
    labels_of,
)
from subterra_operator.resources import Object, key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.deployment import ServingTarget, deployment, deployment_name, version_of
from subterra_operator.specs.traffic.service import ports, selector, service
from subterra_operator.specs.volume_claim import store_claim

ROOM_SECONDS = 300.0
"""How long the wanted version waits for the pods of others to be gone; longer than they may drain."""
ROUTE_SECONDS = 5.0
"""How often it is checked whether another agent's route still names the Service that this one is about to make."""
KEEP_SECONDS = 600.0
"""How long an old Deployment is kept after it was scaled to zero."""


@dataclass(frozen=True)
class Rollout:
    """Where the wanted version stands, and what to write. ``active`` is the Deployment with traffic."""

    state: Literal["none", "starting", "blocked", "canary", "failed", "aborted", "scaled to zero", "serving"] = "none"
    version: str | None = None
    message: str = ""
    active: Observed | None = None
    writes: tuple[Write, ...] = ()
    deletes: tuple[Observed, ...] = ()
    recheck_after: float | None = None
    trouble: Trouble | None = None
    """Why the wanted version's pods do not run."""
    canary: Canary | None = None
    """The wanted version's share of the traffic."""
    moves_to: str | None = None
    """The version to which these writes move the traffic."""


@dataclass(frozen=True)
class Versions:
    """All versions of an agent at one moment."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    settings: Settings
    now: datetime
    retry: bool = False
    before: CompiledAgentStatus = field(default_factory=CompiledAgentStatus)
    """The recorded status."""

    @property
    def served(self) -> str | None:
        """The version that had traffic when the status was written."""
        return self.before.serving.version if self.before.serving else None

    @property
    def active_version(self) -> str | None:
        """The version that the Service selects."""
        service = self.snapshot.service
        return service["spec"].get("selector", {}).get(VERSION_LABEL) if service else None

    @property
    def active(self) -> Observed | None:
        """The Deployment with traffic."""
        return self.get(self.active_version) if self.active_version else None

    def get(self, version: str | None) -> Observed | None:
        """The Deployment of a version."""
        name = self._name(version)
        return next((item for item in self.snapshot.deployments if item["metadata"]["name"] == name), None)

    def _name(self, version: str | None) -> str:
        return deployment_name(self.snapshot.agent["metadata"]["name"], version or "")

    def trouble(self, version: str | None) -> Trouble | None:
        """Why a version's pods do not run; `None` if nothing keeps them from running."""
        deployed = self.get(version)
        if deployed is None:
            return None
        place = Place(key_of(deployed), "spec.serving", self.settings.store.claim)
        pods = [pod for pod in self.snapshot.pods if labels_of(pod).get(VERSION_LABEL) == version]
        found = (pod_trouble(pod, self.snapshot.events, place, self.now) for pod in pods)
        return next((trouble for trouble in found if trouble), None) or deployment_without_pod(deployed, place)

    def roll_out(self, target: ServingTarget | None) -> Rollout:
        """The steps towards serving ``target``; without one, the active version is kept as it is."""
        version = version_of(target, self.spec.serving, self.spec.monitoring) if target else self.active_version
        step = self._advance(target, version) if target and version else Rollout()
        stopped = self._recreates and step.state == "starting" and version != self.active_version
        scaled = () if stopped else self._scale_active()
        retired, deletes, recheck = self._retire_others({version, self.active_version})
        return Rollout(
            step.state,
            version if target else None,
            step.message,
            self.active,
            (*routing(self.snapshot, self.spec, step.canary), *step.writes, *scaled, *retired),
            deletes,
            earliest((step.recheck_after, recheck)),
            step.trouble,
            step.canary,
            step.moves_to,
        )

    def _advance(self, target: ServingTarget, version: str) -> Rollout:
        """The wanted version's next step: create, restart, wait, or move traffic."""
        deployed = self.get(version)
        if self.spec.serving.replicas == 0 and version not in (self.active_version, self.served):
            return self._leave_at_zero(deployed, version)
        settings = self._canary_settings(version)
        if settings and not self.snapshot.http_routes:
            return Rollout("blocked", message=f"version {version} gets no traffic: {NO_ROUTES}")
        if deployed is None:
            return self._create(target, version)
        annotations = annotations_of(deployed)
        reason = annotations.get(FAILURE_REASON)
        if reason and not self.retry:
            return _given_up(version, reason, aborted=CANARY_ABORTED in annotations)
        if version == self.active_version:
            return self._restart(deployed, version) if reason else self._serve()
        if settings and not reason and (going := self._going(version)):
            return self._go_on(settings, going, deployed)
        if reason or deployed["spec"].get("replicas") != self.spec.serving.replicas:
            return self._make_room(version) or self._restart(deployed, version)
        if self._is_available(deployed):
            return self._begin_canary(settings, version) if settings else self._move_traffic(deployed, version)
        return self._make_room(version) or self._wait(deployed, version)

    def _serve(self) -> Rollout:
        """The wanted version has the traffic; the next one will not get any without HTTPRoutes for its canary."""
        blocked = self.spec.promotion.canary is not None and not self.snapshot.http_routes
        return Rollout("blocked", message=f"the next version will get no traffic: {NO_ROUTES}") if blocked else Rollout("serving")

    def _canary_settings(self, version: str) -> CanarySettings | None:
        """The settings of the version's canary; `None` if all traffic moves at once.

        So it does to what has served before, which makes a rollback quick, and where nothing answers that could share it.
        """
        settings, active = self.spec.promotion.canary, self.active
        known = version == self.active_version or any(version == before.version for before in self.before.history)
        if settings is None or active is None or known:
            return None
        answers = bool(active.get("status", {}).get("readyReplicas"))
        return settings if answers or self._going(version) else None

    def _going(self, version: str) -> Canary | None:
        """The version's canary, if one has begun."""
        canary = self.before.canary
        return canary if canary and canary.version == version else None

    def _begin_canary(self, settings: CanarySettings, version: str) -> Rollout:
        if problem := gateway_problem(self.snapshot.route, settings.gateway):
            return Rollout("blocked", message=f"version {version} is ready and gets no traffic: {problem}")
        share = begin(settings, version, self._work(version), self.now)
        return Rollout("canary", message=share.message, canary=share.canary, recheck_after=share.recheck_after)

    def _go_on(self, settings: CanarySettings, before: Canary, deployed: Observed) -> Rollout:
        """The canary's next step, its abort, or all traffic."""
        version, replicas = before.version, self.spec.serving.replicas
        resized = deployed["spec"].get("replicas") != replicas
        ready = not resized and self._is_available(deployed)
        broken = self._broken(deployed, version)
        share = go_on(settings, before, self._work(version), self.now, broken=broken, ready=ready)
        if share.outcome == "aborted":
            return self._give_up(deployed, version, share.message, aborted=True)
        if share.outcome == "moves":
            return replace(self._move_traffic(deployed, version), canary=share.canary)
        writes = (patch(deployed, {"spec": {"replicas": replicas}}),) if resized else ()
        return Rollout("canary", message=share.message, canary=share.canary, recheck_after=share.recheck_after, writes=writes)

    def _work(self, version: str) -> ServedWork:
        return self.snapshot.work.get(version, ServedWork())

    def _broken(self, deployed: Observed, version: str) -> str:
        """Why a version that was ready cannot serve: a container of it ended, or no pod is ready; empty if it can."""
        trouble = self.trouble(version)
        if trouble and trouble.reason in (Reason.CONTAINER_RESTARTING, Reason.OUT_OF_MEMORY):
            return trouble.text
        if deployed.get("status", {}).get("readyReplicas"):
            return ""
        return f"none of its pods is ready{f': {trouble.text}' if trouble else '; find the cause in their logs'}"

    @property
    def _recreates(self) -> bool:
        return self.spec.promotion.rollout == "Recreate"

    def _make_room(self, version: str) -> Rollout | None:
        """Stops the active version and waits until no pod of another version is left; `None` once there is room, or always is."""
        if not self._recreates:
            return None
        active = self.active
        message = f"version {self.active_version} stops, to make room for version {version}"
        if active and active["spec"].get("replicas"):
            stop: Object = {"metadata": {"annotations": {STOPPED_AT: timestamp(self.now)}}, "spec": {"replicas": 0}}
            return Rollout("starting", message=message, writes=(patch(active, stop),))
        left = ROOM_SECONDS - seconds_since(annotation(active, STOPPED_AT) if active else None, self.now)
        if left > 0 and any(labels_of(pod).get(VERSION_LABEL) != version for pod in self.snapshot.pods):
            return Rollout("starting", message=message, recheck_after=left)
        return None

    def _create(self, target: ServingTarget, version: str) -> Rollout:
        allowed = policies(self.snapshot.agent, self.spec.serving, self.settings)
        wanted = deployment(self.snapshot.agent, self.spec, target, self.settings, self.now)
        if self._recreates and self.active:
            wanted["spec"]["replicas"] = 0  # what the API server refuses, it refuses before anything is stopped
        created = Write("create", wanted)
        claim = () if target.pulled else (self.claim(),)
        return Rollout("starting", message=self._starting(wanted, version), writes=(*claim, *allowed, created))

    def _starting(self, wanted: Observed, version: str) -> str:
        """That a version starts, and why if it only starts the model again that serves."""
        own, serving = annotations_of(wanted), annotations_of(self.active) if self.active else {}
        asked, same = own.get(RESTART_AT), own.get(MODEL_DIGEST) == serving.get(MODEL_DIGEST)
        again = f"; it starts the same model again, because spec.serving.restartAt is {asked}"
        return f"version {version} is starting" + (again if asked and same and asked != serving.get(RESTART_AT) else "")

    def _leave_at_zero(self, deployed: Observed | None, version: str) -> Rollout:
        """Without replicas, nothing shows that a version can serve; so it gets no traffic."""
        text = f"version {version} has never run, because spec.serving.replicas is 0; set it to 1 or more to start it"
        running = deployed is not None and deployed["spec"].get("replicas")
        stopped = (patch(deployed, {"spec": {"replicas": 0}}),) if deployed and running else ()
        return Rollout("scaled to zero", message=text, writes=stopped)

    def claim(self) -> Write:
        """The write that makes sure of the store's volume claim."""
        return Write("create", store_claim(self.snapshot.agent["metadata"]["namespace"], self.settings))

    def _restart(self, deployed: Observed, version: str) -> Rollout:
        forgotten = {FAILURE_REASON: None, CANARY_ABORTED: None, **_unstopped(deployed)}
        annotations = {**forgotten, **annotation_patch(deployed, STARTED_AT, timestamp(self.now))}
        change: Object = {"metadata": {"annotations": annotations}, "spec": {"replicas": self.spec.serving.replicas}}
        return Rollout("starting", message=self._starting(deployed, version), writes=(patch(deployed, change),))

    def _move_traffic(self, deployed: Observed, version: str) -> Rollout:
        """All replicas are ready, so traffic moves; the guard makes sure that they still are."""
        agent, port = self.snapshot.agent, self.spec.serving.port
        message = f"traffic moves to version {version}"
        if self.snapshot.service is None and (other := self.snapshot.other_route):
            waits = f"until {key_of(other)} sends no more requests to a Service of this agent's name; if it goes on, delete it"
            return Rollout("starting", message=f"version {version} is ready and waits {waits}", recheck_after=ROUTE_SECONDS)
        if self.snapshot.service is None:
            first = service(agent, port, version, self.now)
            return Rollout("starting", message=message, writes=(Write("create", first, guard=deployed),), moves_to=version)
        change: Object = {
            "metadata": {"annotations": annotation_patch(self.snapshot.service, SERVING_SINCE, timestamp(self.now))},
            "spec": {"selector": selector(agent["metadata"]["name"], version), "ports": ports(port)},
        }
        moved = patch(self.snapshot.service, change)
        return Rollout("starting", message=message, writes=(Write("patch", moved.object, guard=deployed),), moves_to=version)

    def _wait(self, deployed: Observed, version: str) -> Rollout:
        """Not ready yet; after the deadline the version is given up, and the active one is left alone."""
        since = annotation(deployed, STARTED_AT) or deployed["metadata"]["creationTimestamp"]
        left = self.spec.promotion.progress_deadline_seconds - seconds_since(since, self.now)
        trouble = self.trouble(version)
        if left > 0:
            lasting = f": {trouble.text}" if trouble and trouble.lasts(self.now) else ""
            message = f"version {version} is starting{lasting}" if lasting else self._starting(deployed, version)
            return Rollout("starting", message=message, recheck_after=left, trouble=trouble)
        seconds = self.spec.promotion.progress_deadline_seconds
        unknown = f"not ready within {seconds} s; read the pods' log and correct spec.serving"
        reason = truncate(trouble.text if trouble else unknown)
        return self._give_up(deployed, version, reason)

    def _give_up(self, deployed: Observed, version: str, reason: str, *, aborted: bool = False) -> Rollout:
        """Stops the version for good, until someone asks for a retry."""
        annotations = {FAILURE_REASON: truncate(reason), **({CANARY_ABORTED: "true"} if aborted else {})}
        failed = patch(deployed, {"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})
        return replace(_given_up(version, reason, aborted=aborted), writes=(failed,))

    def _is_available(self, deployed: Observed) -> bool:
        replicas, status = self.spec.serving.replicas, deployed.get("status", {})
        current = status.get("observedGeneration", 0) >= deployed["metadata"].get("generation", 0)
        return bool(current and min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0)) >= replicas)

    def _scale_active(self) -> tuple[Write, ...]:
        """Gives the active version its replicas, whatever else happens; a change by somebody else is drift."""
        active, replicas = self.active, self.spec.serving.replicas
        if active is None or FAILURE_REASON in annotations_of(active):
            return ()
        unstopped, differs = _unstopped(active), active["spec"].get("replicas") != replicas
        if not unstopped and not (differs and self.edited):
            return ()
        metadata: Object = {"metadata": {"annotations": unstopped}} if unstopped else {}
        return (replace(patch(active, {**metadata, "spec": {"replicas": replicas}}), group="replicas"),)

    @property
    def edited(self) -> bool:
        """Whether the spec has changed since the status was written."""
        return bool(self.before.observed_generation != self.snapshot.agent["metadata"].get("generation", 0))

    @property
    def kept_replicas(self) -> dict[str, int]:
        """The replicas that the active version has unless somebody changes its Deployment, if nothing stopped it."""
        version, active = self.active_version, self.active
        if version is None or active is None or self.edited or annotations_of(active).keys() & {FAILURE_REASON, STOPPED_AT}:
            return {}
        return {version: self.spec.serving.replicas}

    def _retire_others(self, needed: set[str | None]) -> tuple[tuple[Write, ...], tuple[Observed, ...], float | None]:
        """Scales other versions to zero once the active one has served for `keepWarmSeconds`, and deletes them later."""
        served = seconds_since(annotation(self.snapshot.service, SERVING_SINCE) if self.snapshot.service else None, self.now)
        safe = self._recreates or self.active is None or self._is_available(self.active)
        warm, names = 0 if self._recreates else self.spec.promotion.keep_warm_seconds, {self._name(version) for version in needed}
        writes, deletes, recheck = [], [], []
        for item in self.snapshot.deployments:
            if item["metadata"]["name"] in names:
                continue
            running = bool(item["spec"].get("replicas"))
            left = warm + (0 if running else KEEP_SECONDS) - served
            if left > 0:
                recheck.append(left)
            elif running and safe:
                writes.append(patch(item, {"spec": {"replicas": 0}}))
            elif not running:
                deletes.append(item)
        return tuple(writes), tuple(deletes), earliest(recheck)


def _given_up(version: str, reason: str, *, aborted: bool) -> Rollout:
    """A version that is not started again, and why."""
    if aborted:
        return Rollout("aborted", message=f"version {version}: {reason}")
    return Rollout("failed", message=f"version {version} did not become ready: {reason}")


def _unstopped(deployed: Observed) -> dict[str, None]:
    """The change of annotations for a Deployment that starts again."""
    return {STOPPED_AT: None} if STOPPED_AT in annotations_of(deployed) else {}
