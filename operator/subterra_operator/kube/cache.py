"""What we know of the cluster: trimmed copies, fed by watches and by the answers to our own writes, turned into snapshots.

Copies are kept packed: a thousand agents are fifteen thousand objects, and as dicts they would take ten times the memory.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator.labels import AGENT_LABEL, RUN_LABEL, VERSION_LABEL, labels
from subterra_operator.resources import Key, Object, controller_uid, deleting, key_of, trimmed
from subterra_operator.snapshot import AgentSnapshot, ProcedureSnapshot, RunSnapshot
from subterra_operator.specs.run_input import input_name

TOMBSTONES = 2000

Term = tuple[str, ...]
"""What objects are looked up by, such as their owner."""
RUNNING: Term = ("running",)
"""Pods that run and have an address."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One object as it was last seen."""

    uid: str
    version: int
    terms: tuple[Term, ...]
    packed: bytes

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "_Copy":
        copy = trimmed(obj)
        packed = zlib.compress(json.dumps(copy, separators=(",", ":")).encode(), 1)
        return cls(obj["metadata"]["uid"], _version(obj), tuple(_terms(copy)), packed)

    def object(self) -> Object:
        found: Object = json.loads(zlib.decompress(self.packed))
        return found


class Store:
    """All watched objects. Newer copies replace older ones, never the other way round."""

    def __init__(self) -> None:
        self._copies: dict[str, dict[Key, _Copy]] = defaultdict(dict)
        self._index: dict[Term, set[Key]] = defaultdict(set)
        self._gone: dict[str, None] = {}  # UIDs of deleted objects, so that a late event does not bring one back
        self.progress: dict[tuple[str, str], Progress] = {}
        """By namespace and pod."""
        self.prices: dict[tuple[str, str], Price] = {}
        """By namespace and pod."""
        self.blocked: dict[Key, str] = {}
        """Resources that need a name which an object of somebody else has, and the text that says so."""

    def seen(self, obj: Mapping[str, Any], *, deleted: bool = False) -> bool:
        """Remembers an object as it is now; says whether that was news."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        known = self._copies[key.kind].get(key)
        if deleted:
            return self._forget(key, uid)
        if uid in self._gone or (known and _version(obj) <= known.version):
            return False
        self._drop(key)
        self._copies[key.kind][key] = copy = _Copy.of(obj)
        for term in copy.terms:
            self._index[term].add(key)
        return True

    def _drop(self, key: Key) -> None:
        copy = self._copies[key.kind].pop(key, None)
        for term in copy.terms if copy else ():
            self._index[term].discard(key)
            if not self._index[term]:
                del self._index[term]

    def _forget(self, key: Key, uid: str) -> bool:
        self._gone[uid] = None
        while len(self._gone) > TOMBSTONES:
            self._gone.pop(next(iter(self._gone)))
        known = self._copies[key.kind].get(key)
        if known is None or known.uid != uid:
            return False
        self._drop(key)
        if key.kind == "Pod":
            self.progress.pop(key[1:], None)
            self.prices.pop(key[1:], None)
        return True

    def listed(self, kind: str, present: Collection[Key], version: str, namespace: str | None) -> set[Key]:
        """Takes the names of a complete list; what is not in it and is no newer than it is gone, and returned."""
        gone = {
            key: known.uid for key, known in self._copies[kind].items()
            if key not in present and known.version <= int(version) and namespace in (None, key.namespace)
        }  # fmt: skip
        for key, uid in gone.items():
            self._forget(key, uid)
        return set(gone)

    def get(self, key: Key) -> Object | None:
        """One object, if it is known."""
        known = self._copies[key.kind].get(key)
        return known.object() if known else None

    def keys(self, kind: str) -> list[Key]:
        """All known objects of a kind."""
        return list(self._copies[kind])

    def running_pods(self) -> list[Object]:
        """Pods that may be asked something."""
        return self._found("Pod", RUNNING)

    def keys_for(self, obj: Mapping[str, Any]) -> Iterator[Key]:
        """Whose decision may change when this object does."""
        kind, namespace, name = key_of(obj)
        if kind in ("Procedure", "CompileRun", "CompiledAgent"):
            yield Key(kind, namespace, name)
        if kind == "Procedure":
            yield from sorted(self._index.get(("procedure", namespace, name), ()))
        marks = labels(obj)
        if RUN_LABEL in marks and kind in ("Job", "Pod", "ConfigMap"):
            yield Key("CompileRun", namespace, marks[RUN_LABEL])
        elif AGENT_LABEL in marks and kind in ("CompileRun", "Deployment", "Service", "Pod"):
            yield Key("CompiledAgent", namespace, marks[AGENT_LABEL])

    def procedure(self, key: Key) -> ProcedureSnapshot | None:
        """What a Procedure's decision sees."""
        found = self.get(key)
        return ProcedureSnapshot(found) if found else None

    def run(self, key: Key) -> RunSnapshot | None:
        """What a CompileRun's decision sees."""
        run = self.get(key)
        if run is None:
            return None
        jobs = self._children("Job", run)
        pods = [pod for job in jobs for pod in self._children("Pod", job)]
        frozen = self.get(Key("ConfigMap", key.namespace, input_name(key.name)))
        mine = frozen if frozen and controller_uid(frozen) == run["metadata"]["uid"] else None
        names = [pod["metadata"]["name"] for pod in pods]
        progress = {name: self.progress[key.namespace, name] for name in names if (key.namespace, name) in self.progress}
        procedure = Key("Procedure", key.namespace, run["spec"]["inputs"]["procedureRef"]["name"])
        return RunSnapshot(run, self.get(procedure), mine, tuple(jobs), tuple(pods), progress, self.blocked.get(key, ""))

    def agent(self, key: Key) -> AgentSnapshot | None:
        """What a CompiledAgent's decision sees."""
        agent = self.get(key)
        if agent is None:
            return None
        source = agent["spec"].get("compile")
        procedure = self.get(Key("Procedure", key.namespace, source["procedureRef"]["name"])) if source else None
        service = self.get(Key("Service", key.namespace, key.name))
        mine = service if service and controller_uid(service) == agent["metadata"]["uid"] else None
        pods = self._found("Pod", ("serves", key.namespace, key.name))
        active = mine["spec"].get("selector", {}).get(VERSION_LABEL) if mine else None
        serving = [(key.namespace, pod["metadata"]["name"]) for pod in pods if labels(pod)[VERSION_LABEL] == active]
        prices = tuple(self.prices[name] for name in sorted(serving) if name in self.prices)
        runs, deployments = self._children("CompileRun", agent), self._children("Deployment", agent)
        blocked = self.blocked.get(key, "")
        return AgentSnapshot(agent, procedure, tuple(runs), tuple(deployments), mine, tuple(pods), prices, blocked)

    def _children(self, kind: str, owner: Mapping[str, Any]) -> list[Object]:
        return self._found(kind, ("owner", kind, owner["metadata"]["uid"]))

    def _found(self, kind: str, term: Term) -> list[Object]:
        """The objects of a kind that a term leads to, by name."""
        return [self._copies[kind][key].object() for key in sorted(self._index.get(term, ()))]


def _terms(obj: Mapping[str, Any]) -> Iterator[Term]:
    """Everything that an object is looked up by."""
    kind, namespace, _ = key_of(obj)
    if owner := controller_uid(obj):
        yield "owner", kind, owner
    if kind == "Pod" and VERSION_LABEL in labels(obj):
        yield "serves", namespace, labels(obj).get(AGENT_LABEL, "")
    status = obj.get("status", {})
    if kind == "Pod" and status.get("phase") == "Running" and "podIP" in status and not deleting(obj):
        yield RUNNING
    if procedure := _procedure_of(obj):
        yield "procedure", namespace, procedure


def _procedure_of(obj: Mapping[str, Any]) -> str | None:
    """The procedure that an agent or a run names."""
    if obj["kind"] == "CompileRun":
        return str(obj["spec"]["inputs"]["procedureRef"]["name"])
    source = obj["spec"].get("compile") if obj["kind"] == "CompiledAgent" else None
    return str(source["procedureRef"]["name"]) if source else None


def _version(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])
