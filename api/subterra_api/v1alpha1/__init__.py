"""API group ``subterra.dev``, version ``v1alpha1``."""

GROUP = "subterra.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
