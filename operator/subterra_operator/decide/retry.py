"""Has someone asked for a retry since the status was last written?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1 import RETRY_AT
from subterra_operator.labels import annotation_values

_SEPARATOR = ", "


@dataclass(frozen=True)
class RetryRequest:
    """The retry annotation of a resource, under both spellings, compared with the value that its status recorded."""

    seen: str | None = None
    """All values that are set, for the status to record."""
    new: str | None = None
    """A value that the status had not recorded, or `None` if there is no new request."""


def retry_request(obj: Mapping[str, Any], recorded: str | None) -> RetryRequest:
    """The retry request of `obj`; `recorded` is its status.retryAt.

    A change of either spelling is a request. Removing one is not, nor is writing a recorded value under the other spelling.
    """
    values = annotation_values(obj, RETRY_AT)
    if not values:
        return RetryRequest()
    seen = _SEPARATOR.join(values)
    known = (recorded, *recorded.split(_SEPARATOR)) if recorded is not None else ()
    new = next((value for value in values if value not in known), None) if seen != recorded else None
    return RetryRequest(seen, new)
