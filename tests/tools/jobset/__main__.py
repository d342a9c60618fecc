"""``python -m tests.tools.jobset [controller]``."""

import sys

from tests import programs
from tests.tools.jobset import CRD, PACKAGE, SOURCES

from subterra_cluster.config import default_cache

CRD.ensure(default_cache())
if "controller" in sys.argv[1:]:
    programs.ensure(SOURCES, PACKAGE, default_cache())
