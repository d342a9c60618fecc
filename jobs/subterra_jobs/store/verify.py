"""Verifies a model's digest before vLLM loads it: `python -m subterra_jobs.store.verify PATH DIGEST`."""

import sys

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.errors import StageError
from subterra_jobs.store.artifact_store import ArtifactStore


def main() -> int:
    """Returns exit code 0 when every file matches and the manifest has the expected digest."""
    path, expected = sys.argv[1:3]
    try:
        actual = ArtifactStore(f"file://{STORE_MOUNT}").verify(path)
    except StageError as error:
        print(error, file=sys.stderr)
        return error.code
    if actual != expected:
        message = f"model {path} has digest {actual}, but {expected} was expected; correct spec.model.digest or the URI"
        print(message, file=sys.stderr)
        return ExitCode.INVALID_INPUT
    return ExitCode.SUCCEEDED


if __name__ == "__main__":
    sys.exit(main())
