"""What Artifact Hub shows of the chart: annotations for Chart.yaml, made of the CRDs and the released images."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

PREFIX = "artifacthub.io"


def annotations(version: str, images: Mapping[str, str], crds: Iterable[Mapping[str, Any]], homepage: str | None) -> dict[str, str]:
    """Annotations of the chart; ``images`` are references with digests, ``crds`` the CustomResourceDefinitions."""
    described = {
        "category": "ai-machine-learning",
        "license": "Apache-2.0",
        "operator": "true",
        "prerelease": "true" if "-" in version else "false",
        "images": _text([{"name": name, "image": images[name], "platforms": ["linux/amd64"]} for name in sorted(images)]),
        "crds": _text([_card(crd) for crd in crds]),
    }
    if homepage:
        described["links"] = _text([{"name": "source", "url": homepage}])
    return {f"{PREFIX}/{name}": value for name, value in described.items()}


def _card(crd: Mapping[str, Any]) -> dict[str, str]:
    [version] = [each for each in crd["spec"]["versions"] if each["storage"]]
    kind = crd["spec"]["names"]["kind"]
    return {
        "kind": kind,
        "version": version["name"],
        "name": crd["metadata"]["name"],
        "displayName": kind,
        "description": version["schema"]["openAPIV3Schema"]["description"],
    }


def _text(value: object) -> str:
    """Artifact Hub wants lists as YAML inside of a string."""
    return yaml.safe_dump(value, sort_keys=False, width=1000)
