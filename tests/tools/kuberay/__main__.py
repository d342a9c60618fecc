"""``python -m tests.tools.kuberay [operator]``."""

import sys

from tests import programs
from tests.tools.kuberay import PACKAGE, SOURCES, ensure_crds

from subterra_cluster.config import default_cache

ensure_crds(default_cache())
if "operator" in sys.argv[1:]:
    programs.ensure(SOURCES, PACKAGE, default_cache())
