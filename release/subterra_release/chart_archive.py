"""The chart of a release: its version, and images by digest instead of by tag. The same inputs make the same bytes."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from subterra_release import tar_archive
from subterra_release.release_error import ReleaseError

DEFAULT_IMAGES = {
    "operator": "  operator: localhost/subterra/operator:dev\n",
    "jobs": "  jobs: localhost/subterra/jobs:dev\n",
}
"""Lines of values.yaml that a release replaces."""


def chart_files(
    source: Path, version: str, images: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """The chart's files by name, for `version`; `images` has a reference with its digest for operator and jobs."""
    files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
    described = _versioned(files["Chart.yaml"].decode(), version)
    if annotations:
        described += yaml.safe_dump({"annotations": dict(annotations)}, width=1000)
    files["Chart.yaml"] = described.encode()
    files["values.yaml"] = _with_images(files["values.yaml"].decode(), images).encode()
    return files


def _versioned(text: str, version: str) -> str:
    for field in ("version", "appVersion"):
        text, count = re.subn(rf"^{field}: .*$", f'{field}: "{version}"', text, flags=re.M)
        if count != 1:
            raise ReleaseError(f"charts/subterra/Chart.yaml has {count} lines with {field}; restore the file")
    return text


def _with_images(text: str, images: Mapping[str, str]) -> str:
    for name, line in DEFAULT_IMAGES.items():
        if not re.search(r"@sha256:[0-9a-f]{64}$", images.get(name, "")):
            raise ReleaseError(f"image {name}: {images.get(name, 'no reference')} has no digest; push it first")
        if line not in text:
            raise ReleaseError(f"charts/subterra/values.yaml has no line {line.strip()!r}; restore it")
        text = text.replace(line, f"  {name}: {images[name]}\n")
    return text


def packed(files: Mapping[str, bytes], epoch: int) -> bytes:
    """A chart archive as `helm package` makes one, with all times at `epoch`."""
    names = sorted(files, key=lambda name: (name != "Chart.yaml", name))
    return tar_archive.packed({f"subterra/{name}": files[name] for name in names}, epoch)
