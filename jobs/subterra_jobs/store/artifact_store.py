"""The artifact store: immutable directories under content addresses, on a volume or in S3, through fsspec.

An artifact exists once its `manifest.json` does: that file is written last and holds the SHA-256 of every other file.
"""

import errno
import hashlib
import json
import os
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from subterra_api.digest import sha256
from subterra_jobs.errors import InfrastructureError

MANIFEST = "manifest.json"
HEADROOM = ".room"
HEADROOM_BYTES = 2 * 1024 * 1024
HASHING_THREADS = 4
"""Files that are hashed at once; hashing does not hold the interpreter's lock."""


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def on_disk(file: Path) -> Path:
    """The file, once its content is on the disk and not in memory only: else a crash of the node may leave its name alone."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
    return file


class ArtifactStore:
    """One namespace's prefix. Paths are relative to it, such as `datasets/0a1b…`."""

    def __init__(self, uri: str) -> None:
        self.fs, self.root = fsspec.url_to_fs(uri)
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def _full_path(self, *parts: str) -> str:
        return str(PurePosixPath(self.root, *parts))

    def manifest(self, path: str) -> dict[str, Any] | None:
        """Manifest of a finished artifact; `None` when it is missing or unfinished."""
        try:
            loaded: dict[str, Any] = json.loads(self.fs.cat_file(self._full_path(path, MANIFEST)))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError:
            return None
        return loaded

    def digest(self, path: str) -> str | None:
        """Digest of a finished artifact's manifest; `None` when it is missing or unfinished."""
        manifest = self.manifest(path)
        return None if manifest is None else sha256(manifest)

    def publish(self, path: str, source: Path, about: dict[str, Any]) -> str:
        """Copies directory `source` into the store and returns its digest; an artifact that exists is left alone."""
        if (existing := self.digest(path)) is not None:
            return existing
        hashes = _file_digests(source)
        for name in hashes:
            target = self._full_path(path, name)
            self.fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
            self.fs.put_file(str(source / name), target)
        return self._put_manifest(path, hashes, about)

    def seal(self, path: str, about: dict[str, Any]) -> str:
        """Publishes the files that already lie below `path` on a volume; returns the artifact's digest."""
        return self._put_manifest(path, _file_digests(Path(self._full_path(path))), about)

    def _put_manifest(self, path: str, hashes: dict[str, str], about: dict[str, Any]) -> str:
        """Makes the artifact a finished one, once all its files are on the disk; returns its digest."""
        for name in hashes if self.is_local else ():
            on_disk(Path(self._full_path(path, name)))
        manifest = {"files": hashes, "about": about}
        self.put(f"{path}/{MANIFEST}", json.dumps(manifest, sort_keys=True, indent=1).encode())
        return sha256(manifest)

    def put(self, path: str, content: bytes) -> None:
        """Writes a file durably and atomically: a reader sees either the old content or the new."""
        target = self._full_path(path)
        if not self.is_local:
            self.fs.pipe_file(target, content)
            return
        # In its own folder, so that a process that lists the target's sees no file that is about to vanish.
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
            partial.unlink(missing_ok=True)  # on a full disk
            raise

    def create(self, path: str, content: bytes) -> bool:
        """Writes a file unless it exists; of several concurrent callers one succeeds. `content` must be unique to the caller."""
        try:
            if self.is_local:
                Path(self._full_path(path)).parent.mkdir(parents=True, exist_ok=True)
                with Path(self._full_path(path)).open("xb") as file:  # O_EXCL
                    file.write(content)
            else:
                self.fs.pipe_file(self._full_path(path), content, mode="create")
        except OSError:
            # Object stores report "exists" in many ways, also when our own request succeeded and its response was lost.
            if self.read(path) is None:
                raise
        return self.read(path) == content

    def read(self, path: str) -> bytes | None:
        """Content of a file; `None` when there is no such file."""
        try:
            content: bytes = self.fs.cat_file(self._full_path(path))
        except FileNotFoundError:
            return None
        return content

    def reserve_headroom(self) -> None:
        """Reserves space on a volume, so that responses paid while it fills up can still be stored.

        Raises InfrastructureError.
        """
        try:
            if self.is_local and self.read(HEADROOM) is None:
                self.put(HEADROOM, bytes(HEADROOM_BYTES))
        except OSError as error:
            raise InfrastructureError(f"the artifact store is full or not writable ({error}); free some space") from None

    def release_headroom(self, error: OSError) -> bool:
        """Frees the reserved space if `error` says that the volume is full; `require_headroom` fails from then on."""
        full = self.is_local and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full:
            self.remove(HEADROOM)
        return full

    def require_headroom(self) -> None:
        """Raises InfrastructureError once the volume has been full."""
        if self.is_local and not Path(self._full_path(HEADROOM)).exists():
            raise InfrastructureError("the artifact store is full; free some space. Paid responses are kept")

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Current contents of all files below a folder, by path relative to the store; files that vanish meanwhile are left out."""
        paths = {self._full_path(path): path for path in self.sizes(folder)}
        contents = self.fs.cat(list(paths), on_error="omit") if paths else {}
        return {paths[name]: content for name, content in contents.items()}

    def remove(self, path: str) -> None:
        """Deletes a file, if it exists."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._full_path(path))

    def sizes(self, folder: str) -> dict[str, int]:
        """Current sizes of all files below a folder, by path relative to the store."""
        self.fs.invalidate_cache(self._full_path(folder))
        files = self.fs.find(self._full_path(folder), detail=True)
        return {str(PurePosixPath(name).relative_to(self.root)): info["size"] for name, info in sorted(files.items())}

    def local(self, path: str) -> Path:
        """Local directory with the artifact's files: the store's own on a volume, else a download."""
        manifest = self.manifest(path)
        if manifest is None:
            raise InfrastructureError(f"artifact {path} is not in the store; run the stage that makes it again")
        if self.is_local:
            return Path(self._full_path(path))
        target = Path(tempfile.mkdtemp(prefix="artifact-"))
        for name in [*manifest["files"], MANIFEST]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            self._fetch(path, name, target)
        return target

    def _fetch(self, path: str, name: str, target: Path) -> None:
        try:
            self.fs.get_file(self._full_path(path, name), str(target / name))
        except FileNotFoundError:
            raise InfrastructureError(f"{path}/{name} is missing; delete {path} from the store and run again") from None

    def verify(self, path: str) -> str:
        """Digest of the artifact, after every file was checked against its manifest. Raises InfrastructureError."""
        return sha256(json.loads((self.verified(path) / MANIFEST).read_text()))

    def verified(self, path: str) -> Path:
        """Local directory as of `local`, after every file was checked against its manifest. Raises InfrastructureError."""
        directory = self.local(path)
        if damage := first_damage(directory):
            raise InfrastructureError(f"{path}/{damage}; delete {path} from the store and run again")
        return directory


def first_damage(artifact: Path) -> str | None:
    """Name of an artifact's first file that is not as its manifest says, with both digests; `None` if all files are.

    Files are read as streams, several at once.
    """
    expected: dict[str, str] = json.loads((artifact / MANIFEST).read_text())["files"]
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        for name, found in zip(expected, threads.map(_digest_or_error, (artifact / name for name in expected)), strict=True):
            if found != expected[name]:
                threads.shutdown(wait=False, cancel_futures=True)
                return f"{name} does not match its manifest: expected SHA-256 {expected[name]}, found {found}"
    return None


def _file_digests(folder: Path) -> dict[str, str]:
    """Digests of an artifact's files, by their paths in its folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    return {str(file.relative_to(folder)): file_digest(file) for file in files}


def _digest_or_error(file: Path) -> str:
    """Hex SHA-256 of a file, or why it cannot be read."""
    try:
        return file_digest(file)
    except OSError as error:
        return error.strerror or str(error)
