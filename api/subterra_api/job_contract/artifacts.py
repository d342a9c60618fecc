"""Stages, the keys of their artifacts, and the artifacts' paths in the store."""

from typing import Literal

from subterra_api.digest import short
from subterra_api.v1alpha1.base import ApiModel

PROCEDURE_FILE = "procedure.json"
"""File in a model's directory with the procedure that it was compiled from."""
LOSS_LOG_FILE = "losses.json"
"""File in a model's directory with the losses of its training."""
Stage = Literal["generate", "train", "evaluate"]
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")
ARTIFACT_KIND: dict[Stage, str] = {"generate": "datasets", "train": "models", "evaluate": "reports"}


class ArtifactKeys(ApiModel):
    """Content addresses: digests of everything that determines each artifact."""

    dataset: str
    model: str
    report: str

    def of(self, stage: Stage) -> str:
        """Key of the artifact of `stage`."""
        return {"generate": self.dataset, "train": self.model, "evaluate": self.report}[stage]


def artifact_path(stage: Stage, key: str) -> str:
    """Path of an artifact, relative to the store: `models/<hex>`."""
    return f"{ARTIFACT_KIND[stage]}/{short(key, 32)}"


def work_path(key: str) -> str:
    """Path of the unfinished work on an artifact, relative to the store: `work/<hex>`."""
    return f"work/{short(key, 32)}"


def lease_path(key: str) -> str:
    """Path of the lease on an artifact, relative to the store: `work/<hex>.lease`."""
    return f"{work_path(key)}.lease"
