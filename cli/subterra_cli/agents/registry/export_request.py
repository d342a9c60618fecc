"""Asks the operator to push what an agent serves: the patch of `spec.promotion.export`, and how far it is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.model_registry import ExportSettings
from subterra_cli.cluster import get_condition
from subterra_cli.errors import CommandError


@dataclass(frozen=True)
class ExportWanted:
    """The registry that an agent's models are exported to."""

    settings: ExportSettings

    @classmethod
    def of(cls, to: str, registry_secret: str | None, signing_secret: str | None) -> "ExportWanted":
        """The same, checked. Raises CommandError."""
        secrets = {"registrySecret": registry_secret, "signingSecret": signing_secret}
        fields = {"to": to} | {name: {"name": secret} for name, secret in secrets.items() if secret}
        try:
            return cls(ExportSettings.model_validate(fields))
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]["loc"][0]
            raise CommandError(
                f"{wrong} {fields[str(wrong)]} is invalid; write --to oci://registry.example/agents/travel, with a tag or without"
            ) from None

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch of the agent."""
        unset = {"registrySecret": None, "signingSecret": None}
        return {"spec": {"promotion": {"export": {**unset, **self.settings.dump()}}}}

    @property
    def manifest(self) -> str:
        """What to write into the agent's file."""
        return yaml.safe_dump({"spec": {"promotion": {"export": self.settings.dump()}}}, sort_keys=False).rstrip()


def pushed(agent: Mapping[str, Any], wanted: ExportWanted) -> str | None:
    """The artifact once the agent's serving model is in that place; `None` while it is on its way. Raises CommandError."""
    status = agent.get("status", {})
    if status.get("observedGeneration") != agent["metadata"].get("generation"):
        return None
    condition, name = get_condition(dict(agent), Type.EXPORTED), agent["metadata"]["name"]
    if condition.get("reason") in (Reason.EXPORT_FAILED, Reason.NOTHING_TO_EXPORT):
        raise CommandError(f"CompiledAgent {name} is not exported: {condition['message']}")
    exported = status.get("exported") or {}
    done = condition.get("status") == "True" and exported.get("to") == wanted.settings.to
    return str(exported["uri"]) if done else None
