"""Models on their way to and from OCI registries: what the operator asks of the pods that push and pull them."""

from typing import Literal

from subterra_api.v1alpha1.base import ApiModel, Digest, StatusModel
from subterra_api.v1alpha1.scores import Verdict

EXPORT_VARIABLE = "SUBTERRA_EXPORT"
"""Export: its `ExportRequest` as JSON."""
PULL_VARIABLE = "SUBTERRA_PULL"
"""Pull: its `PullRequest` as JSON."""
REGISTRY_MOUNT = "/etc/subterra/registry"
"""Where the Secret with the registry's password and authority is mounted."""
SIGNING_MOUNT = "/etc/subterra/signing"
"""Where the Secret with the signing key is mounted."""
ATTESTATION_FILE = "attestation.json"
"""File next to a pulled model, with the signed statement about it."""
PREDICATE_TYPE: Literal["https://subterra.dev/compiled-model/v1"] = "https://subterra.dev/compiled-model/v1"
"""Type of the statement about how a model was made."""


class Provenance(StatusModel):
    """How a model was made: the predicate of its statement."""

    agent: str
    """The CompiledAgent for which it was made."""
    namespace: str
    procedure: str
    """Name of the Procedure."""
    procedure_digest: Digest
    run: str
    base_model: str
    dataset: Digest
    """Digest of the dataset's manifest."""
    model: Digest
    """Digest of the model's manifest."""
    report: Digest | None = None
    """Digest of the report's manifest."""
    verdict: Verdict
    """The gate's decision."""


class ExportRequest(ApiModel):
    """A model to push."""

    to: str
    """`oci://registry/repository:tag`."""
    provenance: Provenance
    model_path: str
    """Path of the model in the store."""
    dataset_path: str | None = None
    """Path of the dataset in the store."""
    report_path: str | None = None
    """Path of the report in the store."""
    sign: bool = False
    """Whether there is a key in `SIGNING_MOUNT`."""


class ExportResult(StatusModel):
    """Termination message of an export."""

    uri: str
    """The artifact, by its digest."""
    signed: bool
    message: str = ""


class PullRequest(ApiModel):
    """A model to pull."""

    uri: str
    """`oci://registry/repository@sha256:…`."""
    digest: Digest
    """Digest of the model's manifest."""
    path: str
    """Path below the store's mount where the model is wanted."""
    public_key: str | None = None
    """Key in PEM format with which a statement about the artifact must be signed; `None` asks for no statement."""
