"""Which model gets an agent's traffic by hand: the patch of `spec.promotion.pin`, or why there is none. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subterra_cli.errors import CommandError

GITOPS_MARKS = (
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
)
"""Labels and annotations of objects that a tool keeps as they are in Git."""


@dataclass(frozen=True)
class Pin:
    """A model's digest, and what it is for people."""

    digest: str
    description: str

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch of the agent."""
        return {"spec": {"promotion": {"pin": self.digest}}}

    @property
    def manifest(self) -> str:
        """What to write into the agent's file."""
        return f"spec:\n  promotion:\n    pin: {self.digest}"


def approved(agent: Mapping[str, Any], *, rejected_too: bool) -> Pin:
    """The candidate. Raises CommandError if there is none, or if it did not pass and that is not wanted."""
    name, status = agent["metadata"]["name"], agent.get("status", {})
    candidate = status.get("candidate") or {}
    digest = candidate.get("modelDigest")
    if not digest:
        raise CommandError(
            f"CompiledAgent {name} has no candidate with a model; follow its compilation with: subterra watch {name}"
        )
    if digest == (status.get("serving") or {}).get("modelDigest"):
        raise CommandError(f"CompiledAgent {name} serves this candidate already, version {status['serving']['version']}")
    verdict = candidate.get("verdict") or {}
    result = verdict.get("result", "none yet")
    if result != "Pass" and not rejected_too:
        reasons = "; ".join(verdict.get("reasons", [])) or "no reasons recorded"
        raise CommandError(
            f"the candidate of CompiledAgent {name} did not pass the gate (verdict: {result}: {reasons}); "
            "to serve it all the same, repeat with --although-it-did-not-pass"
        )
    return Pin(digest, f"the candidate of run {candidate.get('run', 'unknown')}, verdict {result}")


def earlier(agent: Mapping[str, Any], version: str | None) -> Pin:
    """The version that served before, or the named one. Raises CommandError."""
    name, status = agent["metadata"]["name"], agent.get("status", {})
    serving = (status.get("serving") or {}).get("modelDigest")
    known = [past for past in status.get("history", []) if past["modelDigest"] != serving]
    chosen = [past for past in known if version is None or past["version"] == version]
    if not chosen:
        versions = ", ".join(past["version"] for past in known)
        wanted = f"no earlier version {version}" if version else "no earlier version"
        raise CommandError(f"CompiledAgent {name} has {wanted} to go back to" + (f"; it has {versions}" if versions else ""))
    return Pin(chosen[0]["modelDigest"], f"version {chosen[0]['version']}, which served since {chosen[0].get('since', 'unknown')}")


def agent_name(agent: Mapping[str, Any]) -> str:
    """The agent's name."""
    return str(agent["metadata"]["name"])


def kept_by_gitops(agent: Mapping[str, Any]) -> bool:
    """Whether a GitOps tool would undo a change in the cluster."""
    metadata = agent["metadata"]
    return any(mark in (metadata.get(part) or {}) for part in ("labels", "annotations") for mark in GITOPS_MARKS)
