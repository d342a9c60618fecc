"""Archives whose bytes depend on nothing but the files in them."""

import gzip
import io
import tarfile
from collections.abc import Collection, Mapping


def packed(files: Mapping[str, bytes], epoch: int, programs: Collection[str] = ()) -> bytes:
    """A gzipped tar of files in the order given, with all times at `epoch`; `programs` may be executed."""
    target = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=target, mode="wb", mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o755 if name in programs else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
