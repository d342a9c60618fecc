"""Programs of other projects that tests ask, each a Go module under tests/tools."""

from subterra_cluster.go_programs import ensure, path_of

__all__ = ["ensure", "path_of"]
