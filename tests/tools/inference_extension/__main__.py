"""``python -m tests.tools.inference_extension``."""

from tests.tools.inference_extension import CRD

from subterra_cluster.config import default_cache

CRD.ensure(default_cache())
