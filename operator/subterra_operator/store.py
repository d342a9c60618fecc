"""What we know of the cluster: trimmed copies, fed by watches and by the answers to our own writes, turned into snapshots."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from subterra_api.contract import Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator.build.input import input_name
from subterra_operator.kinds import AGENT_LABEL, RUN_LABEL, VERSION_LABEL, Key, Object, controller_uid, key_of, labels, trimmed
from subterra_operator.snapshot import AgentSnapshot, ProcedureSnapshot, RunSnapshot

TOMBSTONES = 2000


class Store:
    """All watched objects. Newer copies replace older ones, never the other way round."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
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
        known = self._objects[key.kind].get(key)
        if deleted:
            return self._forget(key, uid)
        if uid in self._gone or (known and not _newer(obj, known)):
            return False
        self._objects[key.kind][key] = trimmed(obj)
        return True

    def _forget(self, key: Key, uid: str) -> bool:
        self._gone[uid] = None
        while len(self._gone) > TOMBSTONES:
            self._gone.pop(next(iter(self._gone)))
        known = self._objects[key.kind].get(key)
        if known is None or known["metadata"]["uid"] != uid:
            return False
        del self._objects[key.kind][key]
        if key.kind == "Pod":
            self.progress.pop(key[1:], None)
            self.prices.pop(key[1:], None)
        return True

    def listed(self, kind: str, objects: Iterable[Mapping[str, Any]], version: str, namespace: str | None) -> set[Key]:
        """Takes over a complete list; returns the keys of what changed. What is not in it and is no newer than it is gone."""
        present = {key_of(obj): obj for obj in objects}
        changed = {key for key, obj in present.items() if self.seen(obj)}
        for key, known in list(self._objects[kind].items()):
            old = int(known["metadata"]["resourceVersion"]) <= int(version)
            if key not in present and old and namespace in (None, key.namespace):
                self._forget(key, known["metadata"]["uid"])
                changed.add(key)
        return changed

    def get(self, key: Key) -> Object | None:
        """One object, if it is known."""
        return self._objects[key.kind].get(key)

    def all(self, kind: str) -> list[Object]:
        """All known objects of a kind."""
        return list(self._objects[kind].values())

    def keys_for(self, obj: Mapping[str, Any]) -> Iterator[Key]:
        """Whose decision may change when this object does."""
        kind, namespace, name = key_of(obj)
        if kind in ("Procedure", "CompileRun", "CompiledAgent"):
            yield Key(kind, namespace, name)
        if kind == "Procedure":
            yield from self._users_of(namespace, name)
        marks = labels(obj)
        if RUN_LABEL in marks and kind in ("Job", "Pod", "ConfigMap"):
            yield Key("CompileRun", namespace, marks[RUN_LABEL])
        elif AGENT_LABEL in marks and kind in ("CompileRun", "Deployment", "Service", "Pod"):
            yield Key("CompiledAgent", namespace, marks[AGENT_LABEL])

    def _users_of(self, namespace: str, procedure: str) -> Iterator[Key]:
        for agent in self.all("CompiledAgent"):
            source = agent["spec"].get("compile") or {}
            if agent["metadata"]["namespace"] == namespace and (source.get("procedureRef") or {}).get("name") == procedure:
                yield key_of(agent)
        for run in self.all("CompileRun"):
            if run["metadata"]["namespace"] == namespace and run["spec"]["inputs"]["procedureRef"]["name"] == procedure:
                yield key_of(run)

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
        pods = [pod for pod in self._of("Pod", key.namespace, RUN_LABEL, key.name) if controller_uid(pod) in _uids(jobs)]
        frozen = self.get(Key("ConfigMap", key.namespace, input_name(key.name)))
        mine = frozen if frozen and controller_uid(frozen) == run["metadata"]["uid"] else None
        names = {(key.namespace, pod["metadata"]["name"]) for pod in pods}
        progress = {name: heard for (namespace, name), heard in self.progress.items() if (namespace, name) in names}
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
        pods = [pod for pod in self._of("Pod", key.namespace, AGENT_LABEL, key.name) if VERSION_LABEL in labels(pod)]
        active = mine["spec"].get("selector", {}).get(VERSION_LABEL) if mine else None
        serving = [(key.namespace, pod["metadata"]["name"]) for pod in pods if labels(pod)[VERSION_LABEL] == active]
        prices = tuple(self.prices[name] for name in sorted(serving) if name in self.prices)
        runs, deployments = self._children("CompileRun", agent), self._children("Deployment", agent)
        blocked = self.blocked.get(key, "")
        return AgentSnapshot(agent, procedure, tuple(runs), tuple(deployments), mine, tuple(pods), prices, blocked)

    def _children(self, kind: str, owner: Mapping[str, Any]) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [obj for obj in self._objects[kind].values() if controller_uid(obj) == uid]

    def _of(self, kind: str, namespace: str, label: str, value: str) -> list[Object]:
        return [obj for key, obj in self._objects[kind].items() if key.namespace == namespace and labels(obj).get(label) == value]


def _newer(obj: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return int(obj["metadata"]["resourceVersion"]) > int(known["metadata"]["resourceVersion"])


def _uids(objects: Iterable[Mapping[str, Any]]) -> set[str]:
    return {obj["metadata"]["uid"] for obj in objects}
