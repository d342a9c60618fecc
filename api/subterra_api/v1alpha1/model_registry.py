"""Models in OCI registries: where an agent's models are exported to, and where a finished model comes from."""

from typing import Annotated

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Digest, LocalReference, StatusModel

REPOSITORY = r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"


class AttestationPolicy(ApiModel):
    """What must be known about a model before it is served."""

    public_key: Annotated[str, StringConstraints(pattern=r"^-----BEGIN PUBLIC KEY-----\n", max_length=2000)]
    """The public key of those who may promote, in PEM format (`cosign.pub`): a statement signed with its private key must say that
    this very artifact passed the gate."""


class ModelSource(ApiModel):
    """Serve a model that was compiled elsewhere, verified by its digest."""

    uri: Annotated[str, StringConstraints(pattern=r"^(pvc://.+|s3://.+|oci://.+)$", max_length=500)]
    """Location of the model: `pvc://path` in the namespace's store, or `oci://registry/repository@sha256:…`, which is
    status.exported.uri of the agent that compiled it. `s3://bucket/path` is not served yet."""
    digest: Digest
    """Digest of its manifest: status.serving.modelDigest of the agent that compiled it."""
    turns_per_conversation: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Mean number of agent turns, from the report of the run that made the model. Without it, the price is per reply."""
    registry_secret: LocalReference | None = None
    """Secret with the registry's password (`.dockerconfigjson`, as `kubectl create secret docker-registry` makes it), with the
    certificate of the registry's authority (`ca.crt`), or with both."""
    require_attestation: AttestationPolicy | None = None
    """Serve it only with a signed statement about how it was made. Only for `oci://`. Default: its digest is enough."""


class ExportSettings(ApiModel):
    """Each model that gets traffic is pushed to an OCI registry, in ModelPack's layout, with a statement about how it was made."""

    to: Annotated[str, StringConstraints(pattern=rf"^oci://{REPOSITORY}(:{TAG})?$", max_length=400)]
    """The repository, such as `oci://registry.example/agents/travel`. Without a tag, the name of the model's run is the tag; with
    one, the tag moves to each newer model."""
    registry_secret: LocalReference | None = None
    """Secret with the registry's password (`.dockerconfigjson`), with the certificate of its authority (`ca.crt`), or with both."""
    signing_secret: LocalReference | None = None
    """Secret with the key that signs the statement, as `cosign generate-key-pair k8s://NAMESPACE/NAME` makes it (`cosign.key`,
    `cosign.password`). Default: the statement is not signed."""


class Exported(StatusModel):
    """The latest model that was exported."""

    uri: str
    """The artifact, by its digest: `spec.model.uri` of the agent that shall serve it."""
    model_digest: str
    """Digest of the model: `spec.model.digest` of that agent."""
    run: str
    """The CompileRun that made it."""
    to: str
    """Value of `promotion.export.to` when it was pushed."""
    signed_with: str | None = None
    """The Secret with whose key the statement is signed."""
