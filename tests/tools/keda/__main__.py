"""``python -m tests.tools.keda``."""

from tests.tools.keda import ensure_crd

from subterra_cluster.config import default_cache

ensure_crd(default_cache())
