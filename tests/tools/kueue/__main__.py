"""``python -m tests.tools.kueue``."""

from tests import programs
from tests.tools.kueue import CRDS, PACKAGE, SOURCES

from subterra_cluster.config import default_cache

for crd in CRDS:
    crd.ensure(default_cache())
programs.ensure(SOURCES, PACKAGE, default_cache())
