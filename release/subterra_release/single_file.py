"""The command line as one file: a zip that Python runs, with all its packages.

Some packages have compiled parts, which cannot be loaded out of a zip. So the file unpacks itself into the user's cache when it
runs for the first time, into a folder named after the digest of what it holds.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import gmtime

SKIPPED = ("__pycache__", "bin")
SHEBANG = b"#!/usr/bin/env python3\n"
START = '''\
"""Unpacks the packages of this file once, then runs `subterra`."""

import os
import pathlib
import shutil
import sys
import tempfile
import zipfile


WANTED = (0, 0)
DIGEST = ""


def unpacked(file: pathlib.Path) -> pathlib.Path:
    """The folder with the packages of this file."""
    root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "subterra-cli"
    folder = root / DIGEST
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        fresh = pathlib.Path(tempfile.mkdtemp(dir=root))
        with zipfile.ZipFile(file) as packed:
            packed.extractall(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return folder


if sys.version_info[:2] != WANTED:
    sys.exit("this file needs Python %d.%d; with another version, install the wheel" % WANTED)
sys.path[0] = str(unpacked(pathlib.Path(sys.argv[0]).resolve()) / "site")

from subterra_cli.main import app  # noqa: E402

app(prog_name="subterra")
'''


def packed_site(site: Path, python: tuple[int, int], epoch: int) -> bytes:
    """A zip with the packages in ``site`` that runs `subterra` in Python ``python``; all times are ``epoch``."""
    target = io.BytesIO()
    files = [*_files(site)]
    digest = hashlib.sha256(b"".join(name.encode() + hashlib.sha256(content).digest() for name, content in files)).hexdigest()[:16]
    start = START.replace("WANTED = (0, 0)", f"WANTED = {python!r}").replace('DIGEST = ""', f'DIGEST = "{digest}"')
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("__main__.py", start.encode()), *files):
            entry = zipfile.ZipInfo(name, gmtime(max(epoch, 315532800))[:6])
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return SHEBANG + target.getvalue()


def _files(site: Path) -> Iterator[tuple[str, bytes]]:
    paths: Iterable[Path] = sorted(path for path in site.rglob("*") if path.is_file())
    for path in paths:
        inside = path.relative_to(site)
        if not set(inside.parts) & set(SKIPPED):
            yield f"site/{inside}", path.read_bytes()
