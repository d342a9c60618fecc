"""Typed failures of a stage, each with the exit code that the operator acts on."""

from subterra_api.job_contract.messages import ExitCode


class StageError(Exception):
    """A failure whose message tells the author of the run what is wrong and how to fix it."""

    code = ExitCode.INTERNAL


class InvalidInputError(StageError):
    """The procedure or a setting is invalid; never retried."""

    code = ExitCode.INVALID_INPUT


class ContextExceededError(InvalidInputError):
    """A request and the room for its response are longer than the model's context or its limit on output."""


class BudgetExceededError(StageError):
    """The next call could exceed a cap on spending."""

    code = ExitCode.BUDGET_EXCEEDED


class ProviderBlockedError(StageError):
    """The provider refuses the key, or the account has no credit or has reached its spend limit."""

    code = ExitCode.PROVIDER_BLOCKED


class ProviderUnavailableError(StageError):
    """The provider has not answered for a long time; worth another attempt."""

    code = ExitCode.PROVIDER_UNAVAILABLE


class InfrastructureError(StageError):
    """Disk, memory, store or a sidecar failed; worth another attempt."""

    code = ExitCode.INFRASTRUCTURE
