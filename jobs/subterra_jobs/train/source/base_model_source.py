"""Where a base model comes from: made on the spot, the image, the store's volume, a hub, or object storage."""

import tempfile
from pathlib import Path

import fsspec

from subterra_api.v1alpha1.compilerun import BUNDLED_SCHEME, HUB_SCHEME
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.stage.model_directory import model_on_volume, require_trainable
from subterra_jobs.stage.runner import StageContext
from subterra_jobs.train.exchange import SCRATCH
from subterra_jobs.train.source.hub import HubModel, download

SMALL_FILES = (".json", ".jinja")
"""Endings of the files that say what the weights are."""


def base_model(uri: str, context: StageContext) -> str:
    """``scratch``, or the local directory of a model, which is downloaded if need be. Raises StageError."""
    scheme, _, rest = uri.partition("://")
    if uri == SCRATCH:
        return uri
    if uri.startswith(BUNDLED_SCHEME):
        return str(bundled_model(uri, context.environment.models))
    if uri.startswith(HUB_SCHEME):
        return str(download(HubModel.parse(rest), context))
    return str(model_on_volume(uri)) if scheme == "pvc" else _from_object_storage(uri, context.input.training.max_length)


def bundled_model(uri: str, directory: Path) -> Path:
    """The directory of a model that comes with the image, whose models are in `directory`. Raises InvalidInputError."""
    name = uri.removeprefix(BUNDLED_SCHEME)
    if not (directory / name).is_dir():
        there = ", ".join(sorted(path.name for path in directory.glob("*/"))) or "no model"
        raise InvalidInputError(
            f"the jobs image has no model {name} in {directory}, but {there}; use another image or baseModel.uri"
        )
    return directory / name


def _from_object_storage(uri: str, max_length: int) -> str:
    """The directory into which all files are copied, the small ones first, to be checked before the weights are."""
    target = tempfile.mkdtemp(prefix="base-model-")
    files, root = fsspec.url_to_fs(uri)
    try:
        names = [path.rpartition("/")[2] for path in files.ls(root.rstrip("/"), detail=False)]
        for name in (name for name in names if name.endswith(SMALL_FILES)):
            files.get_file(f"{root.rstrip('/')}/{name}", f"{target}/{name}")
        require_trainable(Path(target), uri, max_length, names=names)
        files.get(f"{root.rstrip('/')}/", f"{target}/", recursive=True)
    except StageError:
        raise
    except FileNotFoundError:
        raise InvalidInputError(f"there is nothing at {uri}; correct baseModel.uri") from None
    except PermissionError as error:
        raise InvalidInputError(f"{uri} may not be read ({error}); grant the store's credentials access to it") from None
    except Exception as error:  # object stores raise many types
        raise InfrastructureError(f"{uri} cannot be downloaded ({error}); the run will be retried") from None
    return target
