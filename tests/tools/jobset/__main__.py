"""``python -m tests.tools.jobset [controller]``."""

import sys

from tests import programs
from tests.tools.jobset import PACKAGE, SOURCES, ensure_crd

from subterra_cluster.config import default_cache

ensure_crd(default_cache())
if "controller" in sys.argv[1:]:
    programs.ensure(SOURCES, PACKAGE, default_cache())
