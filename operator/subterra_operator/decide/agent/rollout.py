"""Blue and green: start the version that is wanted, move traffic when all of it is ready, keep the old one warm for a while.

The active version is what the Service's selector says; nothing else is believed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.conditions import timestamp
from subterra_operator.decide.decision import Write, patch, seconds_since, shortened, soonest
from subterra_operator.decide.run.job_outcome import trouble
from subterra_operator.labels import FAILED, SERVING_SINCE, STARTED_AT, VERSION_LABEL, annotations, labels
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Seen
from subterra_operator.specs.deployment import Target, deployment, ports, selector, service, version_of
from subterra_operator.specs.network_policy import policies
from subterra_operator.specs.volume_claim import store_claim

KEEP_SECONDS = 600.0
"""An old version without pods is deleted so long after it lost them."""


@dataclass(frozen=True)
class Rollout:
    """Where the wanted version stands, and what to write. ``active`` is the Deployment with traffic."""

    state: Literal["none", "starting", "failed", "serving"] = "none"
    version: str | None = None
    message: str = ""
    active: Seen | None = None
    writes: tuple[Write, ...] = ()
    deletes: tuple[Seen, ...] = ()
    recheck_after: float | None = None


@dataclass(frozen=True)
class Versions:
    """All versions of an agent at one moment."""

    snapshot: AgentSnapshot
    spec: CompiledAgentSpec
    settings: Settings
    now: datetime
    retry: bool = False

    @property
    def active_version(self) -> str | None:
        found = self.snapshot.service
        return found["spec"].get("selector", {}).get(VERSION_LABEL) if found else None

    def get(self, version: str | None) -> Seen | None:
        """The Deployment of a version."""
        return next((item for item in self.snapshot.deployments if labels(item).get(VERSION_LABEL) == version), None)

    @property
    def active(self) -> Seen | None:
        return self.get(self.active_version) if self.active_version else None

    def roll_out(self, target: Target | None) -> Rollout:
        """What to do so that ``target`` serves; without one, what serves goes on."""
        version = version_of(target, self.spec.serving) if target else self.active_version
        moved = self._towards(target, version) if target and version else Rollout()
        kept = self._keep_active()
        writes, deletes, recheck = self._retire({version, self.active_version})
        return Rollout(
            moved.state, version if target else None, moved.message, self.active, (*moved.writes, *kept, *writes), deletes,
            soonest((moved.recheck_after, recheck)),
        )  # fmt: skip

    def _towards(self, target: Target, version: str) -> Rollout:
        found = self.get(version)
        if found is None:
            namespace = self.snapshot.agent["metadata"]["namespace"]
            ground = (Write("create", store_claim(namespace, self.settings)),
                      *(Write("apply", policy) for policy in policies(namespace, self.settings)))  # fmt: skip
            created = Write("create", deployment(self.snapshot.agent, self.spec, target, self.settings, self.now))
            return Rollout("starting", message=f"version {version} starts", writes=(*ground, created))
        if (reason := annotations(found).get(FAILED)) and not self.retry:
            return Rollout("failed", message=f"version {version} did not become ready: {reason}")
        if reason or (version != self.active_version and found["spec"].get("replicas") != self.spec.serving.replicas):
            notes = {FAILED: None, STARTED_AT: timestamp(self.now)}
            again = patch(found, {"metadata": {"annotations": notes}, "spec": {"replicas": self.spec.serving.replicas}})
            return Rollout("starting", message=f"version {version} starts", writes=(again,))
        if version == self.active_version:
            return Rollout("serving", writes=self._ports())
        return self._move(found, version) if self._available(found) else self._wait(found, version)

    def _move(self, found: Seen, version: str) -> Rollout:
        """All replicas are ready: traffic moves. The guard makes sure that they still are."""
        agent = self.snapshot.agent
        if self.snapshot.service is None:
            first = service(agent, self.spec.serving.port, version, self.now)
            return Rollout("starting", message=f"traffic moves to {version}", writes=(Write("create", first, guard=found),))
        change: Object = {
            "metadata": {"annotations": {SERVING_SINCE: timestamp(self.now)}},
            "spec": {"selector": selector(agent["metadata"]["name"], version), "ports": ports(self.spec.serving.port)},
        }
        move = patch(self.snapshot.service, change)
        return Rollout("starting", message=f"traffic moves to {version}", writes=(Write("patch", move.object, guard=found),))

    def _wait(self, found: Seen, version: str) -> Rollout:
        """Not ready yet; after the deadline the version is given up, and what serves is left alone."""
        since = annotations(found).get(STARTED_AT) or found["metadata"]["creationTimestamp"]
        left = self.spec.promotion.progress_deadline_seconds - seconds_since(since, self.now)
        why = self.trouble(version)
        if left > 0:
            return Rollout("starting", message=why or f"version {version} starts", recheck_after=left)
        reason = shortened(why or f"not ready within {self.spec.promotion.progress_deadline_seconds} s")
        failed = patch(found, {"metadata": {"annotations": {FAILED: reason}}, "spec": {"replicas": 0}})
        return Rollout("failed", message=f"version {version} did not become ready: {reason}", writes=(failed,))

    def trouble(self, version: str) -> str:
        """What keeps a version's pods from running."""
        pods = [pod for pod in self.snapshot.pods if labels(pod).get(VERSION_LABEL) == version]
        return next((text for pod in pods if (text := trouble(pod))), "")

    def _available(self, found: Seen) -> bool:
        wanted, status = self.spec.serving.replicas, found.get("status", {})
        seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
        return bool(seen and min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0)) >= wanted)

    def _ports(self) -> tuple[Write, ...]:
        found, wanted = self.snapshot.service, ports(self.spec.serving.port)
        if found is None or [port["port"] for port in found["spec"].get("ports", [])] == [port["port"] for port in wanted]:
            return ()
        return (patch(found, {"spec": {"ports": wanted}}),)

    def _keep_active(self) -> tuple[Write, ...]:
        """The version with traffic has as many replicas as asked for, whatever else happens."""
        active = self.active
        if active is None or active["spec"].get("replicas") == self.spec.serving.replicas or FAILED in annotations(active):
            return ()
        return (patch(active, {"spec": {"replicas": self.spec.serving.replicas}}),)

    def _retire(self, needed: set[str | None]) -> tuple[tuple[Write, ...], tuple[Seen, ...], float | None]:
        """Versions that nobody needs lose their pods when the active one has served for a while, later they go."""
        notes = annotations(self.snapshot.service) if self.snapshot.service else {}
        served = seconds_since(notes.get(SERVING_SINCE), self.now)
        safe = self.active is None or self._available(self.active)
        warm = self.spec.promotion.keep_warm_seconds
        writes, deletes, recheck = [], [], []
        for item in self.snapshot.deployments:
            if labels(item).get(VERSION_LABEL) in needed:
                continue
            running = bool(item["spec"].get("replicas"))
            left = warm + (0 if running else KEEP_SECONDS) - served
            if left > 0:
                recheck.append(left)
            elif running and safe:
                writes.append(patch(item, {"spec": {"replicas": 0}}))
            elif not running:
                deletes.append(item)
        return tuple(writes), tuple(deletes), soonest(recheck)
