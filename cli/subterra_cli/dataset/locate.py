"""Finds a dataset of the generate stage: in a store on a volume or in S3, or in a folder copied from one."""

import hashlib
import json
from pathlib import Path
from typing import Any

from subterra_api.digest import sha256
from subterra_cli.errors import CommandError
from subterra_jobs.store.artifact_store import ArtifactStore

FOLDER = "datasets"
EXTRA = "pip install '.[dataset]' in a checkout of Subterra"


class DatasetNotFoundError(CommandError):
    """The dataset does not exist or is incomplete."""


class Dataset:
    """A finished dataset. Its files are checked against the manifest when they are read."""

    def __init__(self, store: ArtifactStore, path: str, manifest: dict[str, Any]) -> None:
        self._store, self._manifest = store, manifest
        self.path, self.digest = path, sha256(manifest)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of its files. Raises DatasetNotFoundError if the file was truncated or changed."""
        content = self._store.read(f"{self.path}/{name}" if self.path else name) or b""
        if hashlib.sha256(content).hexdigest() != self._manifest["files"].get(name):
            raise DatasetNotFoundError(
                f"{self.path or self._store.root}/{name} does not match its manifest; copy the dataset again, or delete it from "
                "the store and rerun the generate stage"
            )
        return [json.loads(line) for line in content.splitlines()]


def open_dataset(location: str, key: str | None) -> Dataset:
    """The dataset in a folder or store. ``key`` is a path such as ``datasets/0a1b…``, its last part, or a digest.

    Raises DatasetNotFoundError, which lists the datasets that exist.
    """
    store = _store(location)
    try:
        if key is None and (manifest := store.manifest("")) is not None:
            return Dataset(store, "", manifest)
        known = _finished_datasets(store)
    except Exception as error:  # every object store raises its own kind
        raise DatasetNotFoundError(
            f"{location} cannot be read ({type(error).__name__}: {error}); for S3, set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        ) from None
    chosen = [one for one in known if key is None or key in (one.path, one.path.rpartition("/")[2], one.digest)]
    if len(chosen) == 1:
        return chosen[0]
    if not known:
        raise DatasetNotFoundError(f"{location} contains no finished dataset; pass a dataset's folder, or a store with {FOLDER}/")
    listed = "\n".join(f"  --key {one.path.rpartition('/')[2]}  {one.digest}" for one in known)
    problem = "several datasets; select one with --key or --run" if key is None else f"no dataset {key}, only these"
    raise DatasetNotFoundError(f"{location} contains {problem}:\n{listed}")


def dataset_path_of_run(run: dict[str, Any]) -> str:
    """Path of a CompileRun's dataset in its store. Raises DatasetNotFoundError if there is none yet."""
    path = run.get("status", {}).get("artifacts", {}).get("datasetPath")
    if not path:
        name = run["metadata"]["name"]
        raise DatasetNotFoundError(f"CompileRun {name} has no dataset yet; see `kubectl get compilerun {name}`")
    return str(path)


def _store(location: str) -> ArtifactStore:
    uri = location if "://" in location else Path(location).resolve().as_uri()
    if uri.startswith("file://") and not Path(uri.removeprefix("file://")).is_dir():
        raise DatasetNotFoundError(f"{location}: no such folder; pass a dataset's folder or a store, such as s3://bucket/prefix")
    try:
        return ArtifactStore(uri)
    except ImportError:
        raise DatasetNotFoundError(f"{location}: reading it needs another package: {EXTRA}") from None
    except ValueError as error:
        raise DatasetNotFoundError(f"{location}: {error}") from None


def _finished_datasets(store: ArtifactStore) -> list[Dataset]:
    paths = [path.removesuffix("/manifest.json") for path in store.sizes(FOLDER) if path.endswith("/manifest.json")]
    return [Dataset(store, path, manifest) for path in paths if (manifest := store.manifest(path)) is not None]
