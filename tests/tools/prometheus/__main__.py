"""``python -m tests.tools.prometheus``."""

from tests import programs
from tests.tools.prometheus import PROGRAMS, SOURCES, TAGS

from subterra_cluster.config import default_cache

for name, package in PROGRAMS.items():
    programs.ensure(SOURCES, package, default_cache(), name, TAGS)
