"""``python -m tests.tools.registry [release]`` builds the registry.

With ``release`` also krew, and cosign as `make release` does, and it installs what pushes images.
"""

import shutil
import sys

from tests import programs
from tests.tools.registry import PROGRAMS, SOURCES

from subterra_cluster.config import Ports, default_cache, default_paths
from subterra_cluster.host import prerequisites

WANTED = PROGRAMS if "release" in sys.argv[1:] else {"registry": PROGRAMS["registry"]}

for name, package in WANTED.items():
    programs.ensure(SOURCES, package, default_cache(), name)
if "release" in sys.argv[1:]:
    from subterra_release import signatures

    programs.ensure(signatures.SOURCES, signatures.PACKAGE, default_cache())
    if not shutil.which("buildah"):
        prerequisites.ensure(default_paths(), Ports(), node=False, images=True)
