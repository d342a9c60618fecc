"""``python -m tests.objectstore``."""

from tests import programs
from tests.objectstore import PACKAGE, SOURCES

from subterra_cluster.config import default_cache

programs.ensure(SOURCES, PACKAGE, default_cache())
