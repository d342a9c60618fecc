"""``python -m tests.tools.keda``."""

from tests.tools.keda import CRD

from subterra_cluster.config import default_cache

CRD.ensure(default_cache())
