"""The operator's copy of the cluster: trimmed objects, updated by watches and by the responses to its own writes."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.digest import canonical
from subterra_api.job_contract.messages import PodPrice, Progress, ServedWork
from subterra_core.procedure.calls.called import MAX_CALLED, MAX_CALLED_BYTES, called_names_in
from subterra_core.serving_costs.serving_price import total_work
from subterra_operator.kube.packed_objects import Packer
from subterra_operator.kube.running_pod import PodName, RunningPod, running_pod
from subterra_operator.labels import AGENT_LABEL, RUN_LABEL, RUN_UID_LABEL, VERSION_LABEL, labels_of
from subterra_operator.resources import JOB_KINDS, RECONCILED, Key, Object, Version, controller_uid, key_of, trim
from subterra_operator.snapshot import AgentSnapshot, ProcedureSnapshot, QueuedWorkload, RunSnapshot, Snapshot, Warned
from subterra_operator.specs.run_input import input_name
from subterra_operator.specs.traffic.http_route import CANARY, backends, canary_name

TOMBSTONE_LIMIT = 2000
_OF_AGENTS = ("CompileRun", "Deployment", "Service", "HTTPRoute", "InferencePool", "Pod", "Job")
"""Kinds whose objects wake the agent in their label."""

IndexKey = tuple[str, ...]
"""A property that objects are looked up by, such as their owner."""


@dataclass(frozen=True, slots=True)
class _CachedObject:
    """One object as it was last observed."""

    uid: str
    version: int
    index_keys: tuple[IndexKey, ...]
    packed: bytes


class ObjectCache:
    """All watched objects. A newer copy replaces an older one, never the other way round."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, _CachedObject]] = defaultdict(dict)
        self._packer = Packer()
        self._index: dict[IndexKey, tuple[Key, ...]] = {}
        self._tombstones: dict[str, int] = {}  # UIDs and last versions of deleted objects, so that no late event restores one
        self._running: dict[Key, RunningPod] = {}
        self.progress: dict[PodName, Progress] = {}
        self.prices: dict[PodName, PodPrice] = {}
        self.departed: dict[tuple[str, str, str], ServedWork] = {}
        """What pods did that are gone, or whose exporter started again, by namespace, agent and version."""
        self.events: dict[str, dict[Key, tuple[Warned, ...]]] = defaultdict(dict)
        """Warnings by namespace and object."""
        self.absent_kinds: set[str] = set()
        """Kinds of `OPTIONAL` that the cluster lacks, or does not let us see."""
        self.workloads: dict[str, dict[str, QueuedWorkload]] = defaultdict(dict)
        """What Kueue says, by namespace and UID of the Job."""

    def upsert(self, obj: Mapping[str, Any]) -> bool:
        """Adds an object or replaces an older copy; returns whether the cache changed."""
        key, uid = Key(*map(sys.intern, key_of(obj))), sys.intern(obj["metadata"]["uid"])
        known = self._objects[key.kind].get(key)
        if _version(obj) <= self._tombstones.get(uid, -1) or (known and _version(obj) <= known.version):
            return False
        self._tombstones.pop(uid, None)  # it had only lost the label that watches select
        self._drop(key)
        trimmed = trim(obj)
        index_keys = tuple(tuple(map(sys.intern, index_key)) for index_key in _index_keys(trimmed))
        self._objects[key.kind][key] = _CachedObject(uid, _version(obj), index_keys, self._packer.pack(trimmed))
        for index_key in index_keys:
            self._index[index_key] = (*self._index.get(index_key, ()), key)
        if key.kind == "Pod" and (pod := running_pod(obj)):
            self._running[key] = pod
        return True

    def remove(self, obj: Mapping[str, Any]) -> bool:
        """Removes a deleted object; returns whether the cache changed. A successor of the same name stays."""
        return self._remove(key_of(obj), obj["metadata"]["uid"], _version(obj))

    def _remove(self, key: Key, uid: str, version: int) -> bool:
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        while len(self._tombstones) > TOMBSTONE_LIMIT:
            self._tombstones.pop(next(iter(self._tombstones)))
        known = self._objects[key.kind].get(key)
        if known is None or known.uid != uid:
            return False
        self._drop(key)
        self.events.get(key.namespace, {}).pop(key, None)
        self.workloads.get(key.namespace, {}).pop(uid, None)
        if key.kind == "Pod":
            self.progress.pop(key[1:], None)
            labels = labels_of(self._packer.unpack(key.kind, known.packed))
            self._keep_work(_served_version(labels, key.namespace), self.prices.pop(key[1:], None))
        if key.kind == "CompiledAgent":
            self.departed = {version: work for version, work in self.departed.items() if version[:2] != key[1:]}
        return True

    def record_price(self, pod: RunningPod, price: PodPrice) -> PodPrice | None:
        """Stores what a serving pod reports; returns what it reported before. A price never starts again with a pod."""
        before, self.prices[pod.id] = self.prices.get(pod.id), price
        if before and before.work and price.work and price.work.seconds < before.work.seconds:
            self._keep_work((pod.namespace, pod.agent, pod.version), before)
        return before

    def _keep_work(self, version: tuple[str, str, str], price: PodPrice | None) -> None:
        if price and price.work and version[2]:
            self.departed[version] = total_work((self.departed.get(version, ServedWork()), price.work))

    def _drop(self, key: Key) -> None:
        cached = self._objects[key.kind].pop(key, None)
        self._running.pop(key, None)
        for index_key in cached.index_keys if cached else ():
            self._index[index_key] = tuple(other for other in self._index[index_key] if other != key)
            if not self._index[index_key]:
                del self._index[index_key]

    def version(self, key: Key) -> Version | None:
        """The version of an object, or `None` if it is not known."""
        known = self._objects[key.kind].get(key)
        return Version(known.uid, known.version) if known else None

    def versions(self, kind: str, namespace: str | None = None) -> dict[Key, Version]:
        """The version of each object of a kind, in one namespace or in all."""
        known = self._objects[kind].items()
        return {key: Version(obj.uid, obj.version) for key, obj in known if namespace in (None, key.namespace)}

    def versions_of_owned(self, key: Key) -> tuple[Version, ...]:
        """The versions of a resource and of the ConfigMaps, Jobs, JobSets, RayJobs and pods that it owns, over others or at once.

        Nothing is unpacked. Empty if the resource is not known.
        """
        found = [known] if (known := self._objects[key.kind].get(key)) else []
        for kind in ("ConfigMap", "JobSet", "RayJob", "Job", "Pod"):
            children = (child for owner in tuple(found) for child in sorted(self._index.get(("owner", kind, owner.uid), ())))
            found += [self._objects[kind][child] for child in children]
        return tuple(Version(each.uid, each.version) for each in found)

    @property
    def size(self) -> int:
        """The number of objects."""
        return sum(map(len, self._objects.values()))

    @property
    def deleted_uids(self) -> frozenset[str]:
        """UIDs of the objects that were deleted most recently."""
        return frozenset(self._tombstones)

    def has(self, key: Key) -> bool:
        """Whether an object is known."""
        return key in self._objects[key.kind]

    def get(self, key: Key) -> Object | None:
        """One object, or `None`."""
        known = self._objects[key.kind].get(key)
        return self._packer.unpack(key.kind, known.packed) if known else None

    def keys(self, kind: str) -> list[Key]:
        """Keys of all objects of a kind."""
        return list(self._objects[kind])

    def running_pods(self) -> list[RunningPod]:
        """Pods that can be polled."""
        return list(self._running.values())

    def agent_versions(self, key: Key) -> tuple[Version, ...]:
        """Versions of an agent and of its Service, runs and Deployments: what follows from those is the same while these are.

        Nothing is unpacked. Empty if the agent is not known.
        """
        agent = self._objects[key.kind].get(key)
        if agent is None:
            return ()
        parts = [self._objects["Service"].get(Key("Service", key.namespace, key.name)), agent]
        for kind in ("CompileRun", "Deployment"):
            parts += [self._objects[kind][child] for child in sorted(self._index.get(("owner", kind, agent.uid), ()))]
        return tuple(Version(part.uid, part.version) for part in parts if part)

    def affected_keys(self, obj: Mapping[str, Any]) -> Iterator[Key]:
        """Resources whose decision may change when this object does."""
        kind, namespace, name = key_of(obj)
        if kind in RECONCILED:
            yield Key(kind, namespace, name)
        if kind == "Procedure":
            callers = self._callers(namespace, name)
            yield from callers
            for procedure in (name, *(caller.name for caller in callers)):
                yield from sorted(self._index.get(("procedure", namespace, procedure), ()))
        labels = labels_of(obj)
        if RUN_LABEL in labels and kind in (*JOB_KINDS, "Pod", "ConfigMap"):
            yield Key("CompileRun", namespace, labels[RUN_LABEL])
        elif AGENT_LABEL in labels and kind in _OF_AGENTS:
            yield Key("CompiledAgent", namespace, labels[AGENT_LABEL])

    def _callers(self, namespace: str, name: str) -> list[Key]:
        """The procedures that call this one, over others or at once."""
        names, found = [name], list[Key]()
        for called in names:
            callers = sorted(self._index.get(("caller", namespace, called), ()))
            found += [caller for caller in callers if caller.name not in names]
            names += [caller.name for caller in callers if caller.name not in names]
        return found

    def called_procedures(self, procedure: Mapping[str, Any]) -> dict[str, Object]:
        """The procedures that a Procedure calls, over others or at once, as far as they exist; at most `MAX_CALLED`.

        Those after `MAX_CALLED_BYTES` have no spec.
        """
        namespace, found, size = procedure["metadata"]["namespace"], dict[str, Object](), 0
        waiting = called_names_in(procedure["spec"])
        for name in waiting:
            called = self.get(Key("Procedure", namespace, name)) if name not in found and len(found) < MAX_CALLED else None
            if called is None:
                continue
            size += len(canonical(called["spec"]))
            found[name] = called if size <= MAX_CALLED_BYTES else called | {"spec": None}
            waiting += called_names_in(called["spec"]) if size <= MAX_CALLED_BYTES else []
        return found

    def procedure_to_check(self, key: Key) -> Object | None:
        """The Procedure whose check the decision on a resource needs: itself, or that of a run without a frozen input."""
        if key.kind == "Procedure":
            return self.get(key)
        if key.kind != "CompileRun" or self.has(Key("ConfigMap", key.namespace, input_name(key.name))):
            return None
        run = self.get(key)
        if run is None or run["spec"].get("reevaluates"):
            return None
        return self.get(Key("Procedure", key.namespace, _procedure_of(run) or ""))

    def snapshot(self, key: Key) -> Snapshot | None:
        """Input of the decision on a resource, or `None` if it is not known."""
        found = {"Procedure": self.procedure_snapshot, "CompileRun": self.run_snapshot, "CompiledAgent": self.agent_snapshot}
        return found[key.kind](key)

    def procedure_snapshot(self, key: Key) -> ProcedureSnapshot | None:
        """Input of a Procedure's decision, or `None` if the Procedure is not known."""
        procedure = self.get(key)
        return ProcedureSnapshot(procedure, self.called_procedures(procedure)) if procedure else None

    def run_snapshot(self, key: Key) -> RunSnapshot | None:
        """Input of a CompileRun's decision, or `None` if the run is not known."""
        run = self.get(key)
        if run is None:
            return None
        sets = self._children("JobSet", run)
        members = [job for each in sets for job in self._children("Job", each)]
        jobs = self._children("Job", run)
        owners = (*jobs, *members, run)  # pods of RayJobs are found by the run
        pods = [pod for owner in owners for pod in self._children("Pod", owner)]
        names = [(key.namespace, pod["metadata"]["name"]) for pod in pods]
        frozen = self._frozen_input(key.namespace, run)
        procedure = None if frozen else self.get(Key("Procedure", key.namespace, _procedure_of(run) or ""))
        return RunSnapshot(
            run,
            procedure=procedure,
            called=self.called_procedures(procedure) if procedure else {},
            input=frozen,
            jobs=(*jobs, *sets, *self._children("RayJob", run)),
            members=tuple(members),
            job_sets="JobSet" not in self.absent_kinds,
            ray_jobs="RayJob" not in self.absent_kinds,
            pods=tuple(pods),
            progress={name[1]: self.progress[name] for name in names if name in self.progress},
            events=self.events.get(key.namespace, {}),
            workloads=self.workloads.get(key.namespace, {}),
        )

    def _frozen_input(self, namespace: str, run: Mapping[str, Any]) -> Object | None:
        """The input of a run, or of the run whose model it evaluates again."""
        name = run["spec"].get("reevaluates")
        owner = self.get(Key("CompileRun", namespace, name)) if name else run
        return self._owned(Key("ConfigMap", namespace, input_name(owner["metadata"]["name"])), owner) if owner else None

    def agent_snapshot(self, key: Key) -> AgentSnapshot | None:
        """Input of a CompiledAgent's decision, or `None` if the agent is not known."""
        agent = self.get(key)
        if agent is None:
            return None
        source = agent["spec"].get("compile")
        service = self._owned(Key("Service", key.namespace, key.name), agent)
        pods = self._lookup("Pod", ("serves", key.namespace, key.name))
        runs = self._children("CompileRun", agent)
        exports = self._children("Job", agent)
        return AgentSnapshot(
            agent,
            procedure=self.get(Key("Procedure", key.namespace, source["procedureRef"]["name"])) if source else None,
            runs=tuple(run for run in runs if not run["spec"].get("reevaluates")),
            reevaluations=tuple(run for run in runs if run["spec"].get("reevaluates")),
            deployments=tuple(self._children("Deployment", agent)),
            service=service,
            canary_service=self._owned(Key("Service", key.namespace, canary_name(key.name)), agent),
            route=self._owned(Key("HTTPRoute", key.namespace, key.name), agent),
            other_route=self._other_route(key),
            http_routes="HTTPRoute" not in self.absent_kinds,
            inference_pool=self._owned(Key("InferencePool", key.namespace, key.name), agent),
            inference_pools="InferencePool" not in self.absent_kinds,
            work=self._work_by_version(agent),
            pods=tuple(pods),
            prices=self.prices_of(key, service["spec"].get("selector", {}).get(VERSION_LABEL)) if service else (),
            exports=tuple(exports),
            export_pods=tuple(pod for job in exports for pod in self._children("Pod", job)),
            events=self.events.get(key.namespace, {}),
        )

    def _other_route(self, agent: Key) -> Object | None:
        """Another agent's HTTPRoute that sends requests to the Service of this agent's name, to its canary, which is not there."""
        other = agent.name.removesuffix(CANARY)
        if other == agent.name or self.has(Key("Service", *agent[1:])):
            return None
        route = self.get(Key("HTTPRoute", agent.namespace, other))
        return route if route and agent.name in backends(route) else None

    def _work_by_version(self, agent: Mapping[str, Any]) -> dict[str, ServedWork]:
        """What the pods of an agent's versions did; empty for an agent without a canary."""
        if not agent["spec"].get("promotion", {}).get("canary"):
            return {}
        deployed = self._children("Deployment", agent)
        versions = filter(None, (labels_of(each).get(VERSION_LABEL) for each in deployed))
        prices = {version: self.prices_of(key_of(agent), version) for version in versions}
        return {version: total_work(price.work for price in found if price.work) for version, found in prices.items()}

    def prices_of(self, agent: Key, version: str | None) -> tuple[PodPrice, ...]:
        """Prices of an agent's pods of a version, by pod name, and of those that are gone. Nothing is unpacked."""
        if not version:
            return ()
        pods = sorted(self._index.get(("version", agent.namespace, agent.name, version), ()))
        found = [self.prices[pod[1:]] for pod in pods if pod[1:] in self.prices]
        if gone := self.departed.get((agent.namespace, agent.name, version)):
            found.append(PodPrice(conversations=int(gone.conversations), work=gone))
        return tuple(found)

    def _owned(self, key: Key, owner: Mapping[str, Any]) -> Object | None:
        """The object if ``owner`` controls it, else `None`."""
        obj = self.get(key)
        return obj if obj and controller_uid(obj) == owner["metadata"]["uid"] else None

    def _children(self, kind: str, owner: Mapping[str, Any]) -> list[Object]:
        return self._lookup(kind, ("owner", kind, owner["metadata"]["uid"]))

    def _lookup(self, kind: str, index_key: IndexKey) -> list[Object]:
        """The objects of a kind that have an index key, by name."""
        keys = sorted(self._index.get(index_key, ()))
        return [self._packer.unpack(kind, self._objects[kind][key].packed) for key in keys]


def _index_keys(obj: Mapping[str, Any]) -> Iterator[IndexKey]:
    """All index keys of an object."""
    kind, namespace, _ = key_of(obj)
    if owner := controller_uid(obj):
        yield "owner", kind, owner
    if kind == "Pod" and (run := labels_of(obj).get(RUN_UID_LABEL)):
        yield "owner", kind, run
    if kind == "Pod" and VERSION_LABEL in labels_of(obj):
        served = _served_version(labels_of(obj), namespace)
        yield "serves", *served[:2]
        yield "version", *served
    if procedure := _procedure_of(obj):
        yield "procedure", namespace, procedure
    for called in called_names_in(obj.get("spec", {})) if kind == "Procedure" else ():
        yield "caller", namespace, called


def _served_version(labels: Mapping[str, str], namespace: str) -> tuple[str, str, str]:
    """Namespace, agent and version of a pod; the version is empty for a pod that serves nothing."""
    return namespace, labels.get(AGENT_LABEL, ""), labels.get(VERSION_LABEL, "")


def _procedure_of(obj: Mapping[str, Any]) -> str | None:
    """The procedure that an agent or a run names."""
    if obj["kind"] == "CompileRun":
        return str(obj["spec"]["inputs"]["procedureRef"]["name"])
    source = obj["spec"].get("compile") if obj["kind"] == "CompiledAgent" else None
    return str(source["procedureRef"]["name"]) if source else None


def _version(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])
