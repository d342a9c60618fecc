"""What a build that failed leaves behind: mounts of the image store, which make later builds fail. And a disk that is full."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from subterra_cluster import cleanup
from subterra_cluster.host.shell import ClusterError

MOUNT_TABLE = Path("/proc/self/mountinfo")
PROCESSES = Path("/proc")
_FULL = re.compile(rb"no space left on device|disk quota exceeded", re.IGNORECASE)
GB = 10**9


def stale_mounts(folder: Path) -> list[Path]:
    """Mounts below the folder of the image store that no running build uses, deepest first."""
    found = cleanup.mounts_below(folder.resolve(), MOUNT_TABLE.read_text())
    return [] if found and in_use(folder) else found


def in_use(folder: Path) -> bool:
    """Whether a process, such as a build, names the folder in its command line."""
    return any(os.fsencode(folder) in line for line in _command_lines())


def _command_lines() -> Iterator[bytes]:
    """The command lines of all other processes."""
    for path in PROCESSES.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.parent.name != str(os.getpid()):
                yield path.read_bytes()


class DiskSpace:
    """What is free where a build writes, measured before it begins: when it has failed its temporary files are gone."""

    def __init__(self, *folders: Path) -> None:
        """Measure the file systems of these folders, and of the one for temporary files."""
        temporary = Path(os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108 - buildah's default
        self._free = {folder: shutil.disk_usage(existing(folder)).free for folder in (*folders, temporary)}

    def explained(self, error: ClusterError, title: str, logs: Sequence[Path] = ()) -> ClusterError:
        """The error, or if the disk was full, one that says how much the build needs and where."""
        said = [str(error).encode(), *(log.read_bytes() for log in logs if log.exists())]
        if not any(_FULL.search(text) for text in said):
            return error
        folder, free = min(self._free.items(), key=lambda item: item[1])
        needed = f"no space left on device, more than {free / GB:.1f} GB needed in {folder}"
        fix = "free some and repeat, or set SUBTERRA_CACHE (TMPDIR for temporary files) to a folder with more room"
        return ClusterError(f"{needed}: {title} filled it; {fix}\n{error}")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
