"""``python -m tests.tools.objectstore``."""

from tests import programs
from tests.tools.objectstore import PACKAGE, SOURCES

from subterra_cluster.config import default_cache

programs.ensure(SOURCES, PACKAGE, default_cache())
