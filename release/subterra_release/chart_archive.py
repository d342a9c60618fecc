"""The chart of a release: its version, and images by digest instead of by tag. The same inputs make the same bytes."""

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from subterra_release.release_error import ReleaseError

DEFAULT_IMAGES = {
    "operator": "  operator: localhost/subterra/operator:dev\n",
    "jobs": "  jobs: localhost/subterra/jobs:dev\n",
}
"""Lines of values.yaml that a release replaces."""


def chart_files(source: Path, version: str, images: Mapping[str, str]) -> dict[str, bytes]:
    """The chart's files by name, for `version`; `images` has a reference with its digest for operator and jobs."""
    files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
    files["Chart.yaml"] = _versioned(files["Chart.yaml"].decode(), version).encode()
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
    target = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=target, mode="wb", mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in sorted(files, key=lambda name: (name != "Chart.yaml", name)):
            entry = tarfile.TarInfo(f"subterra/{name}")
            entry.size, entry.mtime, entry.mode = len(files[name]), epoch, 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return target.getvalue()
