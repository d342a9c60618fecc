"""Finds a dataset where the generate stage put it: in a store on a volume or in S3, or in a folder that was copied from one."""

import hashlib
import json
from pathlib import Path
from typing import Any

from subterra_api.digest import sha256
from subterra_cli.errors import CommandError
from subterra_jobs.store.artifacts import ArtifactStore

FOLDER = "datasets"
EXTRA = "pip install 'subterra[dataset]'"


class NoDatasetError(CommandError):
    """There is no such dataset, or it is not whole."""


class Dataset:
    """A finished dataset, whose files are checked against their manifest when they are read."""

    def __init__(self, store: ArtifactStore, path: str, manifest: dict[str, Any]) -> None:
        self._store, self._manifest = store, manifest
        self.path, self.digest = path, sha256(manifest)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of its files. Raises NoDatasetError when it was cut or changed."""
        content = self._store.read(f"{self.path}/{name}" if self.path else name) or b""
        if hashlib.sha256(content).hexdigest() != self._manifest["files"].get(name):
            raise NoDatasetError(
                f"{self.path or self._store.root}/{name} is not what its manifest says; copy the dataset again, or delete it from "
                "the store and run the generate stage again"
            )
        return [json.loads(line) for line in content.decode().splitlines()]


def open_dataset(place: str, key: str | None) -> Dataset:
    """The dataset in a folder or store. ``key`` is a path such as ``datasets/0a1b…``, its last part, or a digest.

    Raises NoDatasetError with what is there instead.
    """
    store = _store(place)
    try:
        if key is None and (manifest := store.manifest("")) is not None:
            return Dataset(store, "", manifest)
        found = _known(store)
    except Exception as error:  # every object store has its own
        raise NoDatasetError(
            f"{place} cannot be read ({type(error).__name__}: {error}); S3 is told by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_ENDPOINT_URL"
        ) from None
    chosen = [each for each in found if key is None or key in (each.path, each.path.rpartition("/")[2], each.digest)]
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise NoDatasetError(f"{place} holds no finished dataset; name a dataset's folder, or a store that has {FOLDER}/")
    listed = "\n".join(f"  --key {each.path.rpartition('/')[2]}  {each.digest}" for each in found)
    wanted = "several datasets; choose one with --key or --run" if key is None else f"no dataset {key}, but these"
    raise NoDatasetError(f"{place} holds {wanted}:\n{listed}")


def of_run(run: dict[str, Any]) -> str:
    """Where the dataset of a CompileRun is in its store. Raises NoDatasetError when there is none yet."""
    found = run.get("status", {}).get("artifacts", {}).get("datasetPath")
    if not found:
        name = run["metadata"]["name"]
        raise NoDatasetError(f"CompileRun {name} has no dataset yet; see `kubectl get compilerun {name}`")
    return str(found)


def _store(place: str) -> ArtifactStore:
    uri = place if "://" in place else Path(place).resolve().as_uri()
    if uri.startswith("file://") and not Path(uri.removeprefix("file://")).is_dir():
        raise NoDatasetError(f"{place}: there is no such folder; name a dataset's folder or a store, such as s3://bucket/prefix")
    try:
        return ArtifactStore(uri)
    except ImportError:
        raise NoDatasetError(f"{place}: reading it needs another package: {EXTRA}") from None
    except ValueError as error:
        raise NoDatasetError(f"{place}: {error}") from None


def _known(store: ArtifactStore) -> list[Dataset]:
    paths = [path.removesuffix("/manifest.json") for path in store.sizes(FOLDER) if path.endswith("/manifest.json")]
    return [Dataset(store, path, manifest) for path in paths if (manifest := store.manifest(path)) is not None]
