"""The claim of a namespace's artifact store."""

from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import new_object


def store_claim(namespace: str, settings: Settings) -> Object:
    """The claim; without an owner, because artifacts outlive agents."""
    claim = new_object("PersistentVolumeClaim", namespace, settings.store.claim, {})
    claim["spec"] = {"accessModes": [settings.store.access_mode], "resources": {"requests": {"storage": settings.store.size}}}
    if settings.store.storage_class is not None:
        claim["spec"]["storageClassName"] = settings.store.storage_class
    return claim
