"""Stages, the keys of their artifacts, and where artifacts are in the store."""

from typing import Literal

from subterra_api.digest import short
from subterra_api.v1alpha1.base import ApiModel

PROCEDURE_FILE = "procedure.json"
"""In a model's directory: the procedure that it was compiled from."""
Stage = Literal["generate", "train", "evaluate"]
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")
ARTIFACT_KIND: dict[Stage, str] = {"generate": "datasets", "train": "models", "evaluate": "reports"}


class ArtifactKeys(ApiModel):
    """Content addresses: the digest of everything that determines each artifact."""

    dataset: str
    model: str
    report: str

    def of(self, stage: Stage) -> str:
        """The key of what ``stage`` makes."""
        return {"generate": self.dataset, "train": self.model, "evaluate": self.report}[stage]


def artifact_path(stage: Stage, key: str) -> str:
    """Where an artifact is, relative to the store: ``models/<hex>``."""
    return f"{ARTIFACT_KIND[stage]}/{short(key, 32)}"


def work_path(key: str) -> str:
    """Where the unfinished work on an artifact is kept, relative to the store: ``work/<hex>``."""
    return f"work/{short(key, 32)}"


def lease_path(key: str) -> str:
    """Where it is written down who works on an artifact, relative to the store: ``work/<hex>.lease``."""
    return f"{work_path(key)}.lease"
