"""What tests need of other projects, each a Go module under tests/tools: programs, and CRDs that are files of a module."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.binaries import find_go, go_version_needed
from subterra_cluster.go_programs import ensure, path_of

__all__ = ["ModuleCrd", "ensure", "path_of"]


@dataclass(frozen=True)
class ModuleCrd:
    """A CRD that is a file of a Go module, which the module in the folder ``sources`` requires."""

    sources: Path
    module: str
    file: str
    """Its path in the module."""
    name: str = ""
    """Tells apart several of one module."""

    def path(self, cache: Path) -> Path:
        """Where the CRD is, or will be."""
        return path_of(self.sources, cache, self.name).with_suffix(".crd.yaml")

    def ensure(self, cache: Path) -> None:
        """Copies the CRD out of the Go module, which is downloaded if need be."""
        if self.path(cache).exists():
            return
        go = find_go(cache, go_version_needed((self.sources / "go.mod").read_text()))
        found = subprocess.run([go, "mod", "download", "-json", self.module], cwd=self.sources, capture_output=True, check=True)
        shutil.copyfile(Path(json.loads(found.stdout)["Dir"], self.file), self.path(cache))
