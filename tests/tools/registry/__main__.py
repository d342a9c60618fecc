"""``python -m tests.tools.registry``: also builds cosign, as `make release` does, and installs what pushes images."""

import shutil

from tests import programs
from tests.tools.registry import PROGRAMS, SOURCES

from subterra_cluster.config import Ports, default_cache, default_paths
from subterra_cluster.host import prerequisites
from subterra_release import signatures

for name, package in PROGRAMS.items():
    programs.ensure(SOURCES, package, default_cache(), name)
programs.ensure(signatures.SOURCES, signatures.PACKAGE, default_cache())
if not shutil.which("buildah"):
    prerequisites.ensure(default_paths(), Ports(), node=False, images=True)
