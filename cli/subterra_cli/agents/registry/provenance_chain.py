"""How the model that an agent serves was made, link by link, from its status, its run and the statement in its pods. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.job_contract.model_transfer import ATTESTATION_FILE, Provenance
from subterra_api.v1alpha1.conditions import Type
from subterra_cli.cluster import get_condition
from subterra_cli.errors import CommandError
from subterra_jobs.errors import StageError
from subterra_jobs.store.registry.statement import unverified

PLACE = f"{STORE_MOUNT}/{ATTESTATION_FILE}"
"""The statement in a pod that serves a model from a registry."""


class BrokenChainError(CommandError):
    """A link is missing; the message says which and what to do."""


@dataclass(frozen=True)
class Link:
    """One thing, and what it is known by."""

    kind: str
    name: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.kind:<11}{'  '.join(filter(None, (self.name, self.digest)))}"


def compiled_chain(agent: Mapping[str, Any], run: Mapping[str, Any] | None) -> Iterator[Link]:
    """The links of a model that this agent compiled. Raises BrokenChainError at the one that is missing."""
    serving = _serving(agent)
    if run is None:
        raise BrokenChainError(
            f"CompileRun {serving.get('run') or 'of the serving model'} is gone, and with it what is known about procedure, "
            "dataset and verdict; an export (spec.promotion.export) keeps them with the model"
        )
    status, inputs = run.get("status", {}), run["spec"]["inputs"]
    made, verdict = status.get("artifacts", {}), status.get("verdict")
    if made.get("model") != serving["modelDigest"]:
        raise BrokenChainError(
            f"run {serving['run']} made model {made.get('model')}, and {serving['modelDigest']} is served; see the agent's Events"
        )
    yield Link("procedure", inputs["procedureRef"]["name"], status.get("procedureDigest", ""))
    yield Link("run", str(serving["run"]))
    yield Link("base", inputs.get("baseModel", {}).get("uri", "the default of the API"))
    for kind, part in (("dataset", "dataset"), ("weights", "model"), ("report", "report")):
        if not made.get(part):
            raise BrokenChainError(f"run {serving['run']} records no {kind}; compile again with an edit or a retry")
        yield Link(kind, made.get(f"{part}Path", ""), made[part])
    if not verdict:
        raise BrokenChainError(f"run {serving['run']} has no verdict, so nothing says how good its model is")
    yield Link("verdict", f"{verdict['result']}: {'; '.join(verdict.get('reasons', []))}")
    yield from _artifact(agent, serving)
    yield _served(serving)


def _artifact(agent: Mapping[str, Any], serving: Mapping[str, Any]) -> Iterator[Link]:
    exported = agent.get("status", {}).get("exported") or {}
    if exported.get("modelDigest") == serving["modelDigest"]:
        signed = f"signed with Secret {exported['signedWith']}" if exported.get("signedWith") else "not signed"
        yield Link("artifact", exported["uri"], signed)
    elif condition := get_condition(dict(agent), Type.EXPORTED):
        raise BrokenChainError(f"the serving model is not in the registry: {condition['message']}")
    else:
        yield Link("artifact", "none: spec.promotion.export is not set")


def pulled_chain(agent: Mapping[str, Any], statement: Callable[[], bytes]) -> Iterator[Link]:
    """The links of a model from a registry; ``statement`` reads the signed one in a pod. Raises BrokenChainError."""
    serving, source = _serving(agent), agent["spec"]["model"]
    if not source["uri"].startswith("oci://"):
        raise BrokenChainError(
            f"spec.model.uri is {source['uri']}: nothing there says how the model was made; export it where it is compiled "
            "(spec.promotion.export) and serve the artifact"
        )
    if source["digest"] != serving["modelDigest"]:
        raise BrokenChainError(f"{source['digest']} is wanted, and {serving['modelDigest']} is served; see subterra why")
    try:
        said = unverified(statement(), source["uri"].partition("@")[2])
    except StageError as error:
        raise BrokenChainError(str(error)) from None
    yield from _statement_links(said)
    checked = "verified by each pod with spec.model.requireAttestation"
    trust = checked if source.get("requireAttestation") else "NOT VERIFIED: set spec.model.requireAttestation"
    yield Link("artifact", source["uri"])
    yield Link("statement", trust)
    if said.model != serving["modelDigest"]:
        raise BrokenChainError(f"the statement is about model {said.model}, not {serving['modelDigest']}, which is served")
    yield _served(serving)


def _statement_links(said: Provenance) -> Iterator[Link]:
    """What a statement says."""
    yield Link("procedure", said.procedure, said.procedure_digest)
    yield Link("run", f"{said.run} of CompiledAgent {said.namespace}/{said.agent}")
    yield Link("base", said.base_model)
    yield Link("dataset", "", said.dataset)
    yield Link("weights", "", said.model)
    if said.report:
        yield Link("report", "", said.report)
    yield Link("verdict", f"{said.verdict.result}: {'; '.join(said.verdict.reasons)}")


def _serving(agent: Mapping[str, Any]) -> Mapping[str, Any]:
    serving: Mapping[str, Any] | None = agent.get("status", {}).get("serving")
    if not serving:
        name = agent["metadata"]["name"]
        raise BrokenChainError(f"CompiledAgent {name} serves nothing, so there is nothing to trace; see: subterra why {name}")
    return serving


def _served(serving: Mapping[str, Any]) -> Link:
    return Link("serving", f"version {serving['version']} since {serving.get('since', 'an unknown time')}")
