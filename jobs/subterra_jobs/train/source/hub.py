"""Base models of a hub: frozen to a commit, downloaded once for all runs of the store, checked, and not asked for again."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from subterra_api.job_contract.artifacts import work_path
from subterra_api.v1alpha1.compilerun import HUB_SCHEME
from subterra_core.training_fit.base_models.model_checks import config_problem, no_model
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.model_directory import read_json_object
from subterra_jobs.stage.runner import StageContext
from subterra_jobs.store.artifact_store import ArtifactStore, file_digest
from subterra_jobs.store.lease import acquire, keep_renewed

WANTED = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "README.md"]
"""Files of a repository that training and export need; weights of other formats may hold code."""
UNWANTED = ["*/*", "consolidated*.safetensors"]
"""Sub-folders hold other formats of the same weights, and so do these files of Mistral's."""
CONFIG = "config.json"
_ADDRESS = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_WATCH_SECONDS = 5.0
_GB = 1_000_000_000
_READ_ACCESS = "name a Secret with a token that may read it in execution.hubTokenSecret"


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub, and the branch, tag or commit that is wanted of it."""

    name: str
    revision: str

    @classmethod
    def parse(cls, rest: str) -> "HubModel":
        """From what follows ``hf://``, such as ``Qwen/Qwen2.5-3B-Instruct@main``. Raises InvalidInputError."""
        found = _ADDRESS.fullmatch(rest)
        if found is None:
            raise InvalidInputError(
                f"baseModel.uri: hf://{rest} is not a hub model; write hf://ORGANISATION/NAME or …/NAME@REVISION"
            )
        return cls(found["name"], found["revision"] or "main")

    def path(self, commit: str) -> str:
        """Where the store keeps the files of one commit."""
        return f"base-models/{self.name}/{commit}"

    def __str__(self) -> str:
        return f"{HUB_SCHEME}{self.name}@{self.revision}"


def download(model: HubModel, context: StageContext) -> Path:
    """Directory with the model's files, the same for all attempts at this training. Raises StageError."""
    store, progress = context.store, context.progress
    api = HfApi(endpoint=context.environment.hub_endpoint, token=context.environment.hub_token or False)
    with _hub_errors(model):
        commit = _frozen_commit(model, api, context)
        path = model.path(commit)
        done = lambda: store.manifest(path) is not None  # noqa: E731
        lease = acquire(store, f"{path}.lease", context.input.run.name, done=done, report=progress.set_message)
        if lease is not None:
            with keep_renewed(lease):
                _fetch(model, commit, api, context)
    return store.verified(path)


def _frozen_commit(model: HubModel, api: HfApi, context: StageContext) -> str:
    """The commit that the first attempt at this training found; a branch may have moved on since."""
    store, note = context.store, f"{work_path(context.input.keys.model)}/base-model-commit"
    if (known := store.read(note)) is None:
        found = api.model_info(model.name, revision=model.revision).sha
        if not found:
            raise InfrastructureError(f"the hub names no commit for {model}; the run will be retried")
        store.put(note, found.encode())
        return found
    return known.decode()


def _fetch(model: HubModel, commit: str, api: HfApi, context: StageContext) -> None:
    """Downloads the files and publishes them. A download that was cut goes on where it ended."""
    store, path = context.store, model.path(commit)
    listed = [entry for entry in api.list_repo_tree(model.name, recursive=True, revision=commit) if isinstance(entry, RepoFile)]
    files = [entry for entry in listed if _matches(entry.path, WANTED) and not _matches(entry.path, UNWANTED)]
    if not any(entry.path.endswith(".safetensors") for entry in files):
        raise InvalidInputError(f"{model} has no .safetensors weights; name another baseModel.uri")
    target = Path(store.root, path) if store.is_local else context.work / "base-model"
    target.mkdir(parents=True, exist_ok=True)
    total = sum(entry.size for entry in files)
    _require_space(target, total, model)
    _require_trainable(model, frozenset(entry.path for entry in files), commit, api, target, context.input.training.max_length)
    with _reported(target, total, model, context):
        snapshot_download(
            model.name,
            revision=commit,
            local_dir=target,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
            token=api.token,
            endpoint=api.endpoint,
        )
    shutil.rmtree(target / ".cache", ignore_errors=True)
    _check(files, target, model)
    _publish(store, path, target, {"hub": model.name, "commit": commit})


def _require_trainable(model: HubModel, names: frozenset[str], commit: str, api: HfApi, target: Path, max_length: int) -> None:
    """Raises InvalidInputError before the weights are fetched, if names or configuration tell that they would be of no use."""
    if CONFIG not in names:
        problem: str | None = no_model(names)
    else:
        file = hf_hub_download(model.name, CONFIG, revision=commit, local_dir=target, token=api.token, endpoint=api.endpoint)
        problem = config_problem(read_json_object(Path(file), str(model), fix="name another baseModel.uri"), max_length)
    if problem:
        raise InvalidInputError(f"base model {model}: {problem}")


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _publish(store: ArtifactStore, path: str, target: Path, about: dict[str, str]) -> None:
    if store.is_local:
        store.seal(path, about)
    else:
        store.publish(path, target, about)
        shutil.rmtree(target)


def _check(files: list[RepoFile], target: Path, model: HubModel) -> None:
    """Raises InfrastructureError for files that differ from the hub's own list, which a library may hand out after a cut."""
    for entry in files:
        file = target / entry.path
        whole = file.is_file() and file.stat().st_size == entry.size
        if not whole or (entry.lfs is not None and file_digest(file) != entry.lfs.sha256):
            file.unlink(missing_ok=True)
            raise InfrastructureError(f"{entry.path} of {model} arrived damaged or incomplete; the run will be retried")


def _require_space(target: Path, total: int, model: HubModel) -> None:
    there = _bytes_in(target)
    free = shutil.disk_usage(target).free
    if free < total - there:
        raise InfrastructureError(
            f"{model} needs {(total - there) / _GB:.1f} GB and {free / _GB:.1f} GB are free in {target}; enlarge the store or the "
            "train pod's ephemeral storage"
        )


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def _reported(target: Path, total: int, model: HubModel, context: StageContext) -> Iterator[None]:
    """Says how much has arrived while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while True:
            context.progress.set_message(f"downloading {model}: {_bytes_in(target) / _GB:.1f} of {total / _GB:.1f} GB")
            if ended.wait(_WATCH_SECONDS):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _hub_errors(model: HubModel) -> Iterator[None]:
    """Gives the hub's refusals their type and fix."""
    try:
        yield
    except StageError:
        raise
    except GatedRepoError:
        raise InvalidInputError(f"{model} is gated; accept its terms on the hub, and {_READ_ACCESS}") from None
    except RevisionNotFoundError:
        raise InvalidInputError(f"{model}: the repository has no such branch, tag or commit; correct baseModel.uri") from None
    except RepositoryNotFoundError:
        raise InvalidInputError(f"{model} does not exist or is private; correct baseModel.uri, or {_READ_ACCESS}") from None
    except HFValidationError as error:
        raise InvalidInputError(f"{model} is not a hub model ({error}); correct baseModel.uri") from None
    except HfHubHTTPError as error:
        raise _refused(model, error) from None
    except Exception as error:  # the library's own OSErrors, and those of its HTTP client
        reason = " ".join(str(error).split())[:200]
        raise InfrastructureError(f"{model} cannot be downloaded ({reason}); the run will be retried, and goes on there") from None


def _refused(model: HubModel, error: HfHubHTTPError) -> StageError:
    status = error.response.status_code
    if status in (401, 403):
        return InvalidInputError(f"the hub refuses {model} (HTTP {status}); {_READ_ACCESS}")
    return InfrastructureError(f"the hub does not serve {model} now (HTTP {status}); the run will be retried, and goes on there")
