"""A travel agent in a simulated namespace, with the events of its lifecycle."""

import copy
from typing import Any

from subterra_api.v1alpha1 import REEVALUATE_AT, RETRY_AT
from subterra_operator.resources import Key, Object, key_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.cluster_simulation import Simulation

AGENT = Key("CompiledAgent", make.NAMESPACE, "travel")
PROCEDURE = Key("Procedure", make.NAMESPACE, "travel")


class AgentLifecycle:
    """A travel agent and the events that can happen to it, one method each."""

    def __init__(self) -> None:
        self.world = Simulation()
        self.edits = 0
        self.world.put(_bare(make.procedure()))
        self.world.put(make.agent())
        self.world.wait(61)
        self.first = self.world.all("CompileRun")[0]["metadata"]["name"]

    def edit(self, prompt: str | None = None) -> None:
        self.edits += 1
        changed = {"systemPrompt": prompt or f"You are travel assistant number {self.edits}."}
        self.world.put(_bare(make.procedure(**(changed if prompt != "" else {}))))
        self.world.settle()

    def edit_back(self) -> None:
        self.edit("")

    def break_procedure(self) -> None:
        nodes = copy.deepcopy(make.TRAVEL["spec"]["nodes"])
        nodes[0]["next"] = [{"to": "nowhere"}]
        self.world.put(_bare(make.procedure(nodes=nodes)))
        self.world.settle()

    def delete_procedure(self) -> None:
        if PROCEDURE in self.world.objects:
            self.world.delete(PROCEDURE)
        self.world.settle()

    def stage(self, code: int = 0, message: str | None = None, **scores: Any) -> None:
        for job in self.world.working()[:1]:
            self.world.end(job, code, message, make.scores(**scores) if scores else None)
            self.world.settle()

    def run(self, **scores: Any) -> None:
        for _ in range(3):
            self.stage(**scores)

    def in_passing(self) -> None:
        self.stage(14, "the disk is full")
        self.world.wait(60)

    def suspend(self, suspended: bool = True) -> None:
        spec = copy.deepcopy(self.world.objects[AGENT]["spec"])
        spec["compile"]["suspend"] = suspended
        self.change(spec)

    def change(self, spec: Object) -> None:
        self.world.put({**self.world.objects[AGENT], "spec": spec})
        self.world.settle()

    def promote(self, **promotion: Any) -> None:
        spec = self.world.objects[AGENT]["spec"]
        self.change({**spec, "promotion": {**spec.get("promotion", {}), **promotion}})

    def models(self) -> list[str]:
        """Digests of all runs' models, oldest first."""
        digests = [run.get("status", {}).get("artifacts", {}).get("model") for run in self.world.all("CompileRun")]
        return [digest for digest in digests if digest]

    @property
    def serving(self) -> str | None:
        """Digest of the serving model in the agent's status."""
        digest: str | None = self.world.objects[AGENT]["status"].get("serving", {}).get("modelDigest")
        return digest

    def pin(self, which: int) -> None:
        """Pins the first (0) or the last (-1) model, if there is one."""
        if models := self.models():
            self.promote(pin=models[which])

    def retry(self) -> None:
        self.world.annotate(AGENT, RETRY_AT, self.world.now.isoformat())
        self.world.settle()

    def reevaluate(self, text: str | None = None) -> None:
        """Asks for another evaluation of what serves, by default as of now."""
        self.world.annotate(AGENT, REEVALUATE_AT, text or self.world.now.isoformat())
        self.world.settle()

    def ready(self, count: int | None = None) -> None:
        for item in self.world.all("Deployment"):
            self.world.scale(item, count)
        self.world.settle()

    def deadline(self) -> None:
        self.world.wait(901)

    def lose_jobs(self) -> None:
        for job in self.world.all("Job"):
            self.world.delete(key_of(job))
        self.world.settle()

    def lose_run(self) -> None:
        """Deletes the newest run."""
        for run in self.world.all("CompileRun")[-1:]:
            self.world.delete(key_of(run))
        self.world.settle()

    def lose_deployments(self) -> None:
        for item in self.world.all("Deployment"):
            self.world.delete(key_of(item))
        self.world.settle()

    def lose_service(self) -> None:
        for item in self.world.all("Service"):
            self.world.delete(key_of(item))
        self.world.settle()

    def serve(self) -> None:
        self.run()
        self.ready()


def _bare(procedure: Object) -> Object:
    """The procedure as a person applies it, without the examples: they do not matter here and take time to parse."""
    nodes = [_without_examples(node) for node in procedure["spec"]["nodes"]]
    return {key: value for key, value in procedure.items() if key != "status"} | {"spec": {**procedure["spec"], "nodes": nodes}}


def _without_examples(node: Object) -> Object:
    return {**node, "examples": [], "next": [{**edge, "examples": []} for edge in node.get("next", [])]}
