"""``python -m tests.tools.kuberay [operator]``."""

import sys

from tests import programs
from tests.tools.kuberay import CRDS, PACKAGE, SOURCES

from subterra_cluster.config import default_cache

for crd in CRDS:
    crd.ensure(default_cache())
if "operator" in sys.argv[1:]:
    programs.ensure(SOURCES, PACKAGE, default_cache())
