"""A namespace in memory: decisions are applied immediately, so that a resource's whole lifecycle runs in milliseconds.

It stands in for the API server, the garbage collector and the Job and Deployment controllers, as far as decisions depend on them.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from subterra_api.v1alpha1.scores import Scores
from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.decision import Decision, Write
from subterra_operator.decide.events.event import Event
from subterra_operator.decide.events.transition import transition_events
from subterra_operator.decide.procedure import decide_procedure
from subterra_operator.decide.run.run import decide_run
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.labels import annotations_of, labels_of
from subterra_operator.resources import Key, Object, controller_uid, key_of
from subterra_operator.settings import Settings
from subterra_testkit.cluster import kubernetes_objects as make

SUBJECTS = ("Procedure", "CompileRun", "CompiledAgent")
ROUNDS = 40
SETTINGS = Settings()


class Simulation:
    """All objects of a namespace, and the time. ``created`` counts creations by key and owner, also of deleted objects."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.cache = ObjectCache()
        self.now: datetime = make.NOW
        self.created: Counter[tuple[Key, str | None]] = Counter()
        self.selected: list[str] = []
        """Versions that have had traffic, in order."""
        self.events: list[tuple[Key, Event]] = []
        """Kubernetes Events of all resources, in order."""
        self._count = 100

    # What people and controllers do

    def put(self, obj: Object) -> None:
        """Creates an object or replaces its spec and annotations, as `kubectl apply` does."""
        key = Key(obj["kind"], make.NAMESPACE, obj["metadata"]["name"])
        known = self.objects.get(key)
        if known is None:
            self._create(key, obj)
        else:
            self._change(key, {"spec": copy.deepcopy(obj["spec"]), "annotations": dict(annotations_of(obj))})

    def annotate(self, key: Key, name: str, value: str) -> None:
        """Sets an annotation."""
        self._change(key, {"annotations": {**annotations_of(self.objects[key]), name: value}})

    def delete(self, key: Key) -> None:
        """Deletes an object and, as the garbage collector does, what it owns."""
        gone = self.objects.pop(key)
        self.cache.remove(gone)
        uid = gone["metadata"]["uid"]
        for child, obj in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences", [])) and child in self.objects:
                self.delete(child)

    def wait(self, seconds: float) -> None:
        """Lets time pass, and reconciles everything."""
        self.now += timedelta(seconds=seconds)
        self.settle()

    def end(self, job: Object, code: int = 0, message: str | None = None, scores: Scores | None = None) -> None:
        """Terminates a Job's main container."""
        stage = labels_of(job)["subterra.dev/stage"]
        pod_spec = job["spec"]["template"]["spec"]
        keys = make.keys_of_pod(pod_spec, self.objects[Key("ConfigMap", make.NAMESPACE, make.input_of_pod(pod_spec))])
        result = make.result(stage, keys.of(stage), (scores or make.scores()) if stage == "evaluate" else None)  # type: ignore[arg-type]
        terminated = {"exitCode": code, "message": result if message is None else message, "finishedAt": str(self.now)}
        pod = make.pod_of(job, terminated=terminated)
        pod["metadata"]["resourceVersion"] = self._version()
        self.objects[key_of(pod)] = pod
        self.cache.upsert(pod)

    def scale(self, deployment: Object, ready: int | None = None) -> None:
        """Makes ``ready`` replicas of a Deployment ready, by default all."""
        count = deployment["spec"]["replicas"] if ready is None else ready
        counts = dict.fromkeys(("readyReplicas", "availableReplicas", "updatedReplicas"), count)
        self._change(key_of(deployment), {"status": {"observedGeneration": 99, **counts}})

    # Looking

    def all(self, kind: str) -> list[Object]:
        """Objects of a kind, oldest first."""
        objects = [obj for key, obj in self.objects.items() if key.kind == kind]
        return sorted(objects, key=lambda obj: str(obj["metadata"]["creationTimestamp"]))

    def working(self) -> list[Object]:
        """Jobs that are neither finished nor suspended."""
        pods = {labels_of(pod)["batch.kubernetes.io/job-name"] for pod in self.all("Pod")}
        return [job for job in self.all("Job") if job["metadata"]["name"] not in pods and not job["spec"].get("suspend")]

    def phase(self, kind: str, name: str = "travel") -> str:
        """The phase in a resource's status."""
        return str(self.objects[Key(kind, make.NAMESPACE, name)].get("status", {}).get("phase"))

    # Deciding

    def settle(self) -> int:
        """Reconciles everything until nothing changes; returns the number of rounds."""
        for number in range(ROUNDS):
            changed = [self._reconcile(key) for key in list(self.objects) if key.kind in SUBJECTS]
            if not any(changed):
                return number
        raise AssertionError(f"decisions still change something after {ROUNDS} rounds")

    def decide(self, key: Key) -> Decision:
        """The decision on a resource."""
        if key.kind == "Procedure" and (procedure := self.cache.procedure_snapshot(key)):
            return decide_procedure(procedure, self.now)
        if key.kind == "CompileRun" and (run := self.cache.run_snapshot(key)):
            return decide_run(run, SETTINGS, self.now)
        agent = self.cache.agent_snapshot(key)
        return decide_agent(agent, SETTINGS, self.now) if agent else Decision()

    def _reconcile(self, key: Key) -> bool:
        if key not in self.objects:
            return False
        decision = self.decide(key)
        written = [self._apply(write) for write in decision.writes]
        for obj in decision.deletes:
            self.delete(key_of(obj))
        changed = any(written) or bool(decision.deletes)
        if decision.status is not None and decision.status != (before := self.objects[key].get("status")):
            self.events += [(key, event) for event in transition_events(key.kind, before or {}, decision.status)]
            self._change(key, {"status": decision.status})
            changed = True
        return changed

    def _apply(self, write: Write) -> bool:
        known = self.objects.get(write.key)
        if known is None:
            assert write.verb != "patch", f"{write.key} is patched and does not exist"
            self._create(write.key, write.object)
            return True
        if write.verb == "create":
            return False
        spec = _merged(known.get("spec", {}), write.object.get("spec", {}))
        merged = _merged(annotations_of(known), annotations_of(write.object))
        return self._change(write.key, {"spec": spec, "annotations": merged})

    def _create(self, key: Key, obj: Object) -> None:
        self.created[key, controller_uid(obj)] += 1
        assigned = {
            "namespace": make.NAMESPACE,
            "uid": f"uid-{self._version()}",
            "generation": 1,
            "creationTimestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
            "resourceVersion": self._version(),
        }
        metadata = {**obj["metadata"], **assigned}
        self.objects[key] = {**copy.deepcopy(obj), "metadata": metadata}
        self._observe(key)

    def _change(self, key: Key, parts: Mapping[str, Any]) -> bool:
        """Replaces annotations, spec or status; like the API server, it bumps versions only if something differs."""
        obj = self.objects[key]
        known = {"annotations": dict(annotations_of(obj)), "spec": obj.get("spec", {}), "status": obj.get("status", {})}
        changed = {name: copy.deepcopy(part) for name, part in parts.items() if part != known[name]}
        if not changed:
            return False
        if "annotations" in changed:
            obj["metadata"]["annotations"] = changed.pop("annotations")
        obj["metadata"]["generation"] += "spec" in changed
        obj["metadata"]["resourceVersion"] = self._version()
        obj.update(changed)
        self._observe(key)
        return True

    def _observe(self, key: Key) -> None:
        obj = self.objects[key]
        if key.kind == "Service":
            version = obj["spec"]["selector"]["subterra.dev/version"]
            self.selected += [version] if [version] != self.selected[-1:] else []
        if key.kind in ("PersistentVolumeClaim", "NetworkPolicy", "PodDisruptionBudget"):
            return
        self.cache.upsert(obj)

    def _version(self) -> str:
        self._count += 1
        return str(self._count)


def _merged(old: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``old`` after a JSON merge patch."""
    result = {key: value for key, value in old.items() if not (key in change and change[key] is None)}
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            result[key] = _merged(old[key], value)
        elif value is not None:
            result[key] = value
    return result
