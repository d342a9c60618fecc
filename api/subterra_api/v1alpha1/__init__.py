"""API group ``subterra.dev``, version ``v1alpha1``."""

GROUP = "subterra.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

RETRY_AT = f"{GROUP}/retry-at"
"""Annotation that people set on an agent or a run, usually to the time: a new value retries what failed."""
REEVALUATE_AT = f"{GROUP}/reevaluate-at"
"""Annotation that people set on an agent to a time: what serves then is evaluated again, with other scenarios."""
