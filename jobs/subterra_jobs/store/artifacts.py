"""The artifact store: immutable directories under content addresses, on a volume or in S3, through fsspec.

An artifact exists once its ``manifest.json`` does: that file is written last and holds the SHA-256 of every other file.
"""

import errno
import hashlib
import json
import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from subterra_api.digest import sha256
from subterra_jobs.errors import InfrastructureError

MANIFEST = "manifest.json"
ROOM = ".room"
ROOM_BYTES = 2 * 1024 * 1024


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactStore:
    """One namespace's prefix. Paths are relative, such as ``datasets/0a1b…``."""

    def __init__(self, uri: str) -> None:
        self.fs, self.root = fsspec.url_to_fs(uri)
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def _at(self, *parts: str) -> str:
        return str(PurePosixPath(self.root, *parts))

    def manifest(self, path: str) -> dict[str, Any] | None:
        """The manifest of a finished artifact; none when it is missing or unfinished."""
        try:
            loaded: dict[str, Any] = json.loads(self.fs.cat_file(self._at(path, MANIFEST)))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError:
            return None
        return loaded

    def digest(self, path: str) -> str | None:
        """Digest of a finished artifact's manifest."""
        manifest = self.manifest(path)
        return None if manifest is None else sha256(manifest)

    def publish(self, path: str, source: Path, about: dict[str, Any]) -> str:
        """Copies a directory into the store and gives its digest; what is in the store already is left alone."""
        if (existing := self.digest(path)) is not None:
            return existing
        files = sorted(file for file in source.rglob("*") if file.is_file() and file.name != MANIFEST)
        hashes = {str(file.relative_to(source)): file_digest(file) for file in files}
        for name in hashes:
            target = self._at(path, name)
            self.fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            self.fs.put_file(str(source / name), target)
        manifest = {"files": hashes, "about": about}
        self.put(f"{path}/{MANIFEST}", json.dumps(manifest, sort_keys=True, indent=1).encode())
        return sha256(manifest)

    def put(self, path: str, content: bytes) -> None:
        """Writes a file durably and in one step, so that a reader sees the old content or the new."""
        target = self._at(path)
        if not self.is_local:
            self.fs.pipe_file(target, content)
            return
        # Not beside the target: whoever lists that directory must not stumble over a file that is about to vanish.
        partial = Path(self.root, ".partial", uuid.uuid4().hex)
        for parent in (partial.parent, Path(target).parent):
            parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(target)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk has no room for it
            raise

    def create(self, path: str, content: bytes) -> bool:
        """Writes a file unless it exists; of several who try at once, one succeeds. ``content`` must be the caller's alone."""
        try:
            if self.is_local:
                Path(self._at(path)).parent.mkdir(parents=True, exist_ok=True)
                with Path(self._at(path)).open("xb") as file:  # O_EXCL
                    file.write(content)
            else:
                self.fs.pipe_file(self._at(path), content, mode="create")
        except OSError:
            # An object store says "exists" in many ways, and also when our own request got through and its answer was lost.
            if self.read(path) is None:
                raise
        return self.read(path) == content

    def read(self, path: str) -> bytes | None:
        """A file's content; none when there is no such file."""
        try:
            content: bytes = self.fs.cat_file(self._at(path))
        except FileNotFoundError:
            return None
        return content

    def set_room_aside(self) -> None:
        """Holds some room of a volume, so that what is paid while it gets full can still be kept. Raises InfrastructureError."""
        try:
            if self.is_local and self.read(ROOM) is None:
                self.put(ROOM, bytes(ROOM_BYTES))
        except OSError as error:
            raise InfrastructureError(f"the artifact store is full or cannot be written ({error}); make room") from None

    def use_room(self, error: OSError) -> bool:
        """Whether there is room again after ``error``; `require_room` fails from then on."""
        full = self.is_local and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full:
            self.remove(ROOM)
        return full

    def require_room(self) -> None:
        """Raises InfrastructureError once the volume was full."""
        if self.is_local and not Path(self._at(ROOM)).exists():
            raise InfrastructureError("the artifact store is full; make room. What is paid is kept")

    def read_all(self, folder: str) -> dict[str, bytes]:
        """The contents of all files below a folder, as they are now, by path relative to the store; without any that vanish."""
        paths = {self._at(path): path for path in self.sizes(folder)}
        contents = self.fs.cat(list(paths), on_error="omit") if paths else {}
        return {paths[name]: content for name, content in contents.items()}

    def remove(self, path: str) -> None:
        """Deletes a file that may be gone already."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path))

    def sizes(self, folder: str) -> dict[str, int]:
        """All files below a folder, by path relative to the store, with their sizes, as they are now."""
        self.fs.invalidate_cache(self._at(folder))
        found = self.fs.find(self._at(folder), detail=True)
        return {str(PurePosixPath(name).relative_to(self.root)): info["size"] for name, info in sorted(found.items())}

    def local(self, path: str) -> Path:
        """A directory with the artifact's files: the store's own when it is a volume, else a download."""
        manifest = self.manifest(path)
        if manifest is None:
            raise InfrastructureError(f"artifact {path} is not in the store; run the stage that makes it again")
        if self.is_local:
            return Path(self._at(path))
        target = Path(tempfile.mkdtemp(prefix="artifact-"))
        for name in [*manifest["files"], MANIFEST]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            self._fetch(path, name, target)
        return target

    def _fetch(self, path: str, name: str, target: Path) -> None:
        try:
            self.fs.get_file(self._at(path, name), str(target / name))
        except FileNotFoundError:
            raise InfrastructureError(_broken(path, name)) from None

    def verify(self, path: str) -> str:
        """The artifact's digest, after checking every file against its manifest. Raises InfrastructureError."""
        directory = self.local(path)
        manifest = json.loads((directory / MANIFEST).read_text())
        for name, expected in manifest["files"].items():
            if not (directory / name).is_file() or file_digest(directory / name) != expected:
                raise InfrastructureError(_broken(path, name))
        return sha256(manifest)


def _broken(path: str, name: str) -> str:
    return f"{path}/{name} does not match its manifest; delete {path} from the store and run again"
