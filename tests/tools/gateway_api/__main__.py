"""``python -m tests.tools.gateway_api``."""

from tests.tools.gateway_api import CRD

from subterra_cluster.config import default_cache

CRD.ensure(default_cache())
