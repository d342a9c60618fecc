"""``python -m tests.tools.gateway_api``."""

from tests.tools.gateway_api import ensure_crd

from subterra_cluster.config import default_cache

ensure_crd(default_cache())
