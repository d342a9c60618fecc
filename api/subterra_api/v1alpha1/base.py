"""Base classes of all resource models: camelCase in JSON, unknown fields rejected, defaults left out of digests."""

from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
NamespaceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Money = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
"""US dollars as a decimal string, because JSON numbers lose cents."""
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _read(value: Any) -> Any:
    """`value` with lists as tuples and integral floats as integers."""
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_map(value: Any) -> Any:
    return {key: _read(item) for key, item in value.items() if item is not None} if isinstance(value, dict) else value


@cache
def _optional_names(model: type[BaseModel]) -> frozenset[str | None]:
    """Names and aliases of the fields that may be left out; a large procedure has tens of thousands of objects of one model."""
    fields = model.model_fields.items()
    return frozenset(key for name, field in fields if not field.is_required() for key in (name, field.alias))


MAP = BeforeValidator(_read_map)
"""For maps with arbitrary keys: null means unset there too."""
Labels = Annotated[dict[str, str], MAP]


class ApiModel(BaseModel):
    """Part of a resource. `dump()` returns the JSON that Kubernetes stores.

    Accepts exactly what the API server accepts: no other names, no strings for numbers; 2.0 is an integer, and null means unset.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Parses JSON with its JSON names. Raises ValidationError."""
        return super().model_validate(obj, **{"by_alias": True, "by_name": False, **options})

    @model_validator(mode="before")
    @classmethod
    def _as_the_api_server_reads(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        optional = _optional_names(cls)
        return {key: _read(value) for key, value in data.items() if value is not None or key not in optional}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """The model itself, as for any immutable value: pydantic copies a field's default each time that it is left out."""
        return self

    def dump(self) -> dict[str, Any]:
        """JSON-ready dict with JSON names; unset and null fields are left out, so defaults never enter a digest."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class StatusModel(ApiModel):
    """Part of a status. Ignores unknown fields: another version of the operator may have written them."""

    model_config = ConfigDict(extra="ignore")


class LocalReference(ApiModel):
    """Reference to an object in the same namespace."""

    name: Name
    """The object's metadata.name."""


class SecretKeyReference(ApiModel):
    """One key of a Secret in the same namespace. The operator never reads it; the kubelet passes it to the job."""

    name: Name
    """The Secret's metadata.name."""
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = "apiKey"
    """Key within the Secret. Default: apiKey."""


class Condition(StatusModel):
    """A Kubernetes condition, as in `metav1.Condition`."""

    type: Annotated[str, StringConstraints(max_length=316)]
    """Type of the condition, in CamelCase."""
    status: Annotated[str, StringConstraints(pattern="^(True|False|Unknown)$")]
    """True, False or Unknown."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    """Machine-readable reason, in CamelCase."""
    message: Annotated[str, StringConstraints(max_length=32768)] = ""
    """Explanation for people, with what to do about it."""
    last_transition_time: str
    """Time of the last change of status."""
    observed_generation: int = Field(default=0, ge=0)
    """The metadata.generation for which the condition was set."""
