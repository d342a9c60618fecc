"""A cluster's view of one served agent, for commands that read it: three objects in place of an API server."""

from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.cluster import ClusterAccessError, ClusterTarget

Object = dict[str, Any]
SERVES = {"type": "Ready", "status": "True", "reason": "Serving", "message": "version 1a2b3c4d serves with 1 of 1 replicas"}


class FakeReader:
    """A cluster with agent, run and procedure ``shop``; a test changes them as it needs."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self.target = ClusterTarget("demo")
        status = {"phase": "Serving", "conditions": [SERVES], "replicas": 1, "currentRun": "shop-1", "stage": "serving"}
        serving = {"version": "1a2b3c4d", "modelDigest": "sha256:feedbeef0123", "modelPath": "models/1", "run": "shop-1"}
        self.agent: Object = {
            "metadata": {"name": "shop", "namespace": "demo"},
            "spec": {"compile": {"procedureRef": {"name": "shop"}}},
            "status": status | {"serving": serving},
        }
        self.run: Object = {
            "spec": {"inputs": {"procedureRef": {"name": "shop"}, "baseModel": {"uri": "hf://Qwen/Qwen3-8B"}}},
            "status": {"procedureDigest": "sha256:0badcafe1234"},
        }
        self.secrets: dict[tuple[str, str], str] = {}
        """Values by name and key."""
        self.procedure: Object | None = {"spec": spec.dump(), "status": {"digest": "sha256:0badcafe1234"}}

    def get(self, plural: str, name: str) -> Object | None:
        """The object, or `None` if it does not exist."""
        objects = {
            ("compiledagents", "shop"): self.agent,
            ("compileruns", "shop-1"): self.run,
            ("procedures", "shop"): self.procedure,
        }
        return objects.get((plural, name))

    def secret_value(self, name: str, key: str) -> str:
        """A value of a Secret. Raises ClusterAccessError."""
        try:
            return self.secrets[name, key]
        except KeyError:
            raise ClusterAccessError(f"reading Secret {name} failed: 404 Not Found") from None
