"""How a program of the store's pods gets its request and ends: its last line is the pod's termination message."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.errors import InvalidInputError, StageError

Request = TypeVar("Request", bound=BaseModel)


def exit_code(work: Callable[[], str]) -> int:
    """Prints what `work` returns, or why it failed, and returns the exit code for it."""
    try:
        print(work())
    except StageError as error:
        print(error, file=sys.stderr)
        return error.code
    return ExitCode.SUCCEEDED


def request_from(variable: str, kind: type[Request]) -> Request:
    """The request that the operator put into an environment variable. Raises InvalidInputError."""
    try:
        return kind.model_validate_json(os.environ.get(variable, ""))
    except ValidationError as error:
        raise InvalidInputError(f"{variable} is invalid: {error.errors(include_url=False)[0]}") from None
